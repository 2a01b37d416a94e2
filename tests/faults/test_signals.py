"""Signals and time limits save the run in time; the same command carries on."""

import json
import signal
import time

import pytest
from command_line import (
    assert_carries_on,
    assert_checkpoints_sound,
    run_here,
    start,
    wait_for,
)

from jax_resnet import IMPORTED
from jax_resnet.runtime.signals import RESERVED_SECONDS

STEP_BY_STEP = "--config.train.steps_per_call=1"
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


@pytest.mark.slow
@pytest.mark.fault("one or two signals in the middle of a run", 0, 12)
def test_signals_save_and_stop(tiny, finished, tmp_path, number, generator):
    workdir = tmp_path / "run"
    process = start(tiny, workdir, STEP_BY_STEP)
    wait_for(process, "epoch 1/3")
    # Two of the same kind would arrive as one if they were sent together.
    first, second = generator.sample([*CODES], 2)
    process.send_signal(first)
    started = time.monotonic()
    if number % 2:
        time.sleep(generator.uniform(0, 0.5))
        process.send_signal(second)
    output, _ = process.communicate(timeout=60)
    if number % 2:
        assert time.monotonic() - started < 2.5
        assert process.returncode in (CODES[first], CODES[second])
    else:
        assert time.monotonic() - started < 10
        assert process.returncode == CODES[first], output
        assert f"{first.name}: saving and stopping" in output
        assert "the same command resumes" in output
    assert not json.loads((workdir / "summary.json").read_text())["complete"]
    assert_carries_on(tiny, workdir, finished)


@pytest.mark.slow
@pytest.mark.fault("a time limit shorter than the run", 1, 6)
def test_a_run_out_of_time_saves_and_stops(tiny, tmp_path, number):
    # A start that takes longer than the limit still makes a step.
    limit = time.monotonic() - IMPORTED + RESERVED_SECONDS + 0.5 + number / 2
    options = (STEP_BY_STEP, "--max-seconds", str(limit))
    result = run_here(tiny, tmp_path / "run", *options)
    assert time.monotonic() - IMPORTED < limit
    assert (result.returncode, result.stderr) == (75, "")
    assert "the same command resumes" in result.stdout
    assert_checkpoints_sound(tmp_path / "run")
