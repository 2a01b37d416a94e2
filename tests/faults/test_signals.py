"""Signals and time limits save the run in time; the same command carries on."""

import json
import signal
import time

import pytest
from command_line import (
    assert_checkpoints_sound,
    assert_same_run,
    run,
    run_here,
    start,
    wait_for,
)

from jax_resnet import IMPORTED
from jax_resnet.runtime.signals import RESERVED_SECONDS

STEP_BY_STEP = "--config.train.steps_per_call=1"
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
SIGNALS = [*CODES]


def assert_carries_on(tiny, workdir, finished):
    assert not json.loads((workdir / "summary.json").read_text())["complete"]
    assert_checkpoints_sound(workdir)
    result = run_here(tiny, workdir)
    assert result.returncode == 0, result.stderr
    assert "resuming at step" in result.stdout
    assert_same_run(workdir, finished)


@pytest.mark.slow
@pytest.mark.fault("SIGINT, SIGTERM or SIGHUP in the middle of a run", 0, 12)
def test_a_signal_saves_and_stops(tiny, finished, tmp_path, number, generator):
    sent = SIGNALS[number % 3]
    process = start(tiny, tmp_path / "run", STEP_BY_STEP)
    wait_for(process, "epoch 1/3")
    time.sleep(generator.uniform(0, 0.3))
    process.send_signal(sent)
    started = time.monotonic()
    output, _ = process.communicate(timeout=60)
    assert time.monotonic() - started < 10
    assert process.returncode == CODES[sent], output
    assert f"{sent.name}: saving and stopping" in output
    assert "the same command resumes" in output
    assert_carries_on(tiny, tmp_path / "run", finished)


@pytest.mark.slow
@pytest.mark.fault("two signals within half a second", 0, 6)
def test_a_second_signal_leaves_at_once(tiny, finished, tmp_path, generator):
    process = start(tiny, tmp_path / "run", STEP_BY_STEP)
    wait_for(process, "epoch 1/3")
    # Two of the same kind would arrive as one if they were sent together.
    first, second = generator.sample(SIGNALS, 2)
    process.send_signal(first)
    time.sleep(generator.uniform(0, 0.5))
    process.send_signal(second)
    started = time.monotonic()
    process.communicate(timeout=60)
    assert time.monotonic() - started < 2
    assert process.returncode in (CODES[first], CODES[second])
    assert_carries_on(tiny, tmp_path / "run", finished)


@pytest.mark.slow
@pytest.mark.fault("a signal before training", 0, 3)
def test_a_signal_before_training_leaves_at_once(tiny, tmp_path, number):
    process = start(tiny, tmp_path / "run")
    wait_for(process, "training on")
    process.send_signal(SIGNALS[number])
    started = time.monotonic()
    process.communicate(timeout=60)
    assert process.returncode == CODES[SIGNALS[number]]
    assert time.monotonic() - started < 2


@pytest.mark.slow
@pytest.mark.fault("a time limit shorter than the run", 1, 3)
def test_a_run_out_of_time_carries_on(tiny, finished, tmp_path, number):
    # A start that takes longer than the limit still makes a step.
    limit = time.monotonic() - IMPORTED + RESERVED_SECONDS + 0.5 + number
    options = (STEP_BY_STEP, "--max-seconds", str(limit))
    result = run_here(tiny, tmp_path / "run", *options)
    assert (result.returncode, result.stderr) == (75, "")
    assert "the same command resumes" in result.stdout
    assert_carries_on(tiny, tmp_path / "run", finished)


@pytest.mark.slow
@pytest.mark.fault("a time limit in the middle of a long run", 0, 3)
def test_a_run_ends_before_its_time_limit(tiny, tmp_path, number):
    seconds = 20 + 5 * number
    options = ("--config.train.epochs=1000", "--max-seconds", str(seconds))
    started = time.monotonic()
    result = run(tiny, tmp_path / "run", *options)
    assert time.monotonic() - started < seconds
    assert (result.returncode, result.stderr) == (75, "")
    assert_checkpoints_sound(tmp_path / "run")
