"""The queue of calls: how far it runs ahead, how long calls are, when it stops."""

import jax
import numpy as np
import pytest

from jax_resnet.checkpoint.history import Clock
from jax_resnet.distributed.mesh import DeviceMesh
from jax_resnet.distributed.processes import Processes
from jax_resnet.runtime.signals import Interrupt
from jax_resnet.training.call_queue import SECONDS_PER_CALL, CallQueue, StepsPerCall
from jax_resnet.training.input_pipeline import Chunk
from jax_resnet.training.multi_step import MultiStep

ONE = DeviceMesh((jax.devices()[0],))
CHUNKS = [Chunk(4, ()), Chunk(10, ())]


class StopAfter(Interrupt):
    """Is due from the n-th question on."""

    def __init__(self, questions=1000):
        super().__init__()
        self._left = questions

    def is_due(self, seconds):
        self._left -= 1
        return self._left < 0


def count(carry):
    kept, steps = carry
    return kept, steps + 1


@pytest.fixture
def step():
    return MultiStep(count, ONE, [], None)


def queue(interrupt=None, steps_per_call=3):
    return CallQueue(
        ONE,
        Processes(),
        interrupt or StopAfter(),
        steps_per_call=steps_per_call,
        clock=Clock(),
    )


def carry():
    return jax.device_put((np.float32(0), np.int32(0)))


def test_results_are_read_one_call_late(step):
    calls, seen = queue(), []
    (_, steps), done = calls.apply(
        step, carry(), CHUNKS, watch=lambda found, done, _: seen.append((found, done))
    )
    assert (int(steps), done) == (10, 10)
    # A call ends where a chunk does.
    assert seen == [(3, 3), (4, 4), (7, 7)]
    calls.wait()
    assert seen[3:] == [(10, 10)]


def test_steps_that_are_slow_are_not_queued_ahead(step):
    calls, seen = queue(steps_per_call=1), []
    calls._paces[step].agreed = 5.0
    assert not calls.looks_ahead(step)
    calls.apply(
        step,
        carry(),
        CHUNKS,
        8,
        watch=lambda found, done, _: seen.append(done),
        calls=1,
    )
    assert seen == [9]


def test_no_call_is_queued_once_the_run_has_to_stop(step):
    # Each call asks twice: for its vote, and whether to go on.
    calls = queue(StopAfter(4))
    _, done = calls.apply(step, carry(), CHUNKS)
    assert calls.stopped and done == 7
    assert calls.apply(step, carry(), CHUNKS, 2)[1] == 2


def test_a_number_of_calls(step):
    calls = queue()
    (kept, steps), done = calls.apply(step, carry(), CHUNKS, calls=1)
    assert done == 3
    (_, steps), done = calls.apply(step, (kept, steps), CHUNKS, done)
    assert (int(steps), done) == (10, 10)


def test_the_clock_counts_all_that_was_read(step):
    calls = queue()
    seconds = []
    calls.start_clock()
    calls.apply(step, carry(), CHUNKS, watch=lambda *found: seconds.append(found[2]))
    calls.wait()
    assert calls.clock.wall == pytest.approx(sum(seconds))
    assert calls.clock.epoch == calls.clock.wall > 0


def test_calls_get_as_long_as_a_signal_may_wait():
    pace = StepsPerCall(fixed=0)
    counts = []
    for _ in range(6):
        pace.agree(SECONDS_PER_CALL / 100)
        counts.append(pace.count)
    # Never more than four times as many as before, as the first calls are short.
    assert counts == [4, 16, 64, 100, 100, 100]
    pace.agree(SECONDS_PER_CALL * 3)
    assert pace.count == 1
    fixed = StepsPerCall(fixed=7)
    fixed.agree(1e-3)
    assert fixed.count == 7
