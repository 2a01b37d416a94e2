"""The time left that a run shows."""

from types import SimpleNamespace

import pytest
from metadata_fixtures import record

from jax_resnet.reporting import progress
from jax_resnet.reporting.progress import Progress


@pytest.fixture
def shown(monkeypatch):
    """Starts a run of 3 epochs of 10 steps; takes the time at which a line is due."""
    clock = SimpleNamespace(now=0.0)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(progress, "time", clock)
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", -1.0)
    lines = []

    def start(first_step=0):
        sizes = {"total_steps": 30, "steps_per_epoch": 10, "batch_size": 100}
        return Progress(first_step=first_step, **sizes, say=lines.append)

    def line(now, show, *arguments):
        clock.now = float(now)
        show(*arguments)
        return lines[-1]

    return SimpleNamespace(start=start, line=line)


def test_the_time_left_is_that_of_steps_and_evaluations(shown):
    run = shown.start()
    # The first call warms up for 50 s. Then a step takes 2 s, an evaluation 20 s.
    shown.line(52, run.trained, 1, 2.0)
    assert shown.line(54, run.trained, 2, 2.0).endswith("50 images/s  56 s left")
    shown.line(70, run.trained, 10, 2.0)
    ended = {"images_per_second": 14.0}
    assert shown.line(90, run.epoch, record(1, **ended)).endswith("80 s left")
    assert shown.line(92, run.trained, 11, 2.0).endswith("78 s left")
    assert shown.line(150, run.trained, 30, 2.0).endswith("0 s left")


def test_a_run_that_resumes_to_evaluate_knows_the_time_left(shown):
    run = shown.start(first_step=10)
    ended = {"images_per_second": 50.0}
    assert shown.line(3, run.epoch, record(1, **ended)).endswith("46 s left")
