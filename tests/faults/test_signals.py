"""Signals and time limits: saved and out in time; the same command carries on."""

import json
import random
import signal
import time

import pytest
from command_line import (
    assert_checkpoints_sound,
    assert_same_run,
    run,
    start,
    wait_for,
)

from jax_resnet.checkpoint import store

# One step a call makes the run long enough to be cut in all its parts.
STEP_BY_STEP = "--config.train.steps_per_call=1"
CODES = {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGHUP: 129}


def is_complete(workdir):
    return json.loads((workdir / "summary.json").read_text())["complete"]


def carry_on(tiny, workdir, finished):
    result = run(tiny, workdir, STEP_BY_STEP)
    assert result.returncode == 0, result.stderr
    assert_same_run(workdir, finished)
    return result.stdout


@pytest.mark.slow
@pytest.mark.parametrize("number", CODES, ids=lambda number: number.name)
def test_a_signal_saves_and_stops(number, tiny, finished, tmp_path, many, tally):
    faults = tally(f"{number.name} in the middle of a run")
    generator = random.Random(number)
    for index in range(many(1, 4)):
        workdir = tmp_path / str(index)
        process = start(tiny, workdir, STEP_BY_STEP)
        wait_for(process, "epoch 1/3")
        time.sleep(generator.uniform(0, 0.3))
        process.send_signal(number)
        faults.injected()
        started = time.monotonic()
        output, _ = process.communicate(timeout=60)
        assert time.monotonic() - started < 10
        assert process.returncode == CODES[number], output
        assert f"{number.name}: saving and stopping" in output
        assert "the same command resumes" in output
        assert not is_complete(workdir)
        assert_checkpoints_sound(workdir)
        if number == signal.SIGTERM or many(0, 1):
            assert "resuming at step" in carry_on(tiny, workdir, finished)
        faults.survived()


@pytest.mark.slow
def test_a_second_signal_leaves_at_once(tiny, finished, tmp_path, many, tally):
    faults = tally("two signals within half a second")
    generator = random.Random(0)
    for index in range(many(1, 8)):
        workdir = tmp_path / str(index)
        process = start(tiny, workdir, STEP_BY_STEP)
        wait_for(process, "epoch 1/3")
        # Two of the same kind would arrive as one if they were sent together.
        first, second = generator.sample(sorted(CODES), 2)
        process.send_signal(first)
        time.sleep(generator.uniform(0, 0.5))
        process.send_signal(second)
        faults.injected()
        started = time.monotonic()
        process.communicate(timeout=60)
        assert time.monotonic() - started < 2
        assert process.returncode in (CODES[first], CODES[second])
        assert_checkpoints_sound(workdir)
        assert not is_complete(workdir)
        carry_on(tiny, workdir, finished)
        faults.survived()


def test_a_signal_before_training_leaves_at_once(tiny, tmp_path, many, tally):
    faults = tally("signal before training")
    for index, number in enumerate(list(CODES)[: many(1, 3)]):
        process = start(tiny, tmp_path / str(index))
        wait_for(process, "training on")
        process.send_signal(number)
        faults.injected()
        started = time.monotonic()
        process.communicate(timeout=60)
        assert process.returncode == CODES[number]
        assert time.monotonic() - started < 2
        faults.survived()


@pytest.mark.slow
def test_a_run_out_of_time_carries_on(tiny, finished, tmp_path, many, tally):
    faults = tally("time limit shorter than the run")
    for seconds in (11, 10.5, 10.1)[: many(1, 3)]:
        workdir = tmp_path / str(seconds)
        faults.injected()
        result = run(tiny, workdir, STEP_BY_STEP, "--max-seconds", str(seconds))
        assert (result.returncode, result.stderr) == (75, "")
        assert "the same command resumes" in result.stdout
        assert not is_complete(workdir)
        carry_on(tiny, workdir, finished)
        faults.survived()


@pytest.mark.many
def test_a_run_ends_before_its_time_limit(tiny, tmp_path, many, tally):
    faults = tally("time limit in the middle of a long run")
    steps_done = 0
    for seconds in (20, 25, 30)[: many(1, 3)]:
        limit = ("--max-seconds", str(seconds))
        faults.injected()
        started = time.monotonic()
        result = run(tiny, tmp_path / "run", "--config.train.epochs=1000", *limit)
        assert time.monotonic() - started < seconds
        assert (result.returncode, result.stderr) == (75, "")
        assert not is_complete(tmp_path / "run")
        assert_checkpoints_sound(tmp_path / "run")
        latest = store.select(tmp_path / "run", "latest")
        assert latest.step > steps_done
        steps_done = latest.step
        faults.survived()
