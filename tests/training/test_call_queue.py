"""The queue of calls: how far it runs ahead, how long calls are, when it stops."""

import jax
import numpy as np
import pytest
from step_fixtures import StopAfter

from jax_resnet.checkpoint.history import Clock
from jax_resnet.distributed.mesh import DeviceMesh
from jax_resnet.distributed.processes import Processes
from jax_resnet.training.call_queue import SECONDS_PER_CALL, CallQueue, StepsPerCall
from jax_resnet.training.input_pipeline import Chunk
from jax_resnet.training.multi_step import MultiStep

ONE = DeviceMesh((jax.devices()[0],))
CHUNKS = [Chunk(4, ()), Chunk(10, ())]


@pytest.fixture(scope="module")
def step():
    return MultiStep(lambda carry: (carry[0], carry[1] + 1), ONE, [], None)


def queue(interrupt=None):
    interrupt = interrupt or StopAfter()
    return CallQueue(ONE, Processes(), interrupt, steps_per_call=3, clock=Clock())


def carry():
    return jax.device_put((np.float32(0), np.int32(0)))


def test_results_are_read_one_call_late(step):
    calls, read = queue(), []
    (_, steps), done = calls.apply(
        step, carry(), CHUNKS, callback=lambda *found: read.append(found)
    )
    assert (int(steps), done) == (10, 10)
    # A call ends where a chunk does.
    assert [found[:2] for found in read] == [(3, 3), (4, 4), (7, 7)]
    calls.wait()
    assert read[3][:2] == (10, 10)
    assert calls.clock.wall == pytest.approx(sum(seconds for *_, seconds in read))
    assert calls.clock.epoch == calls.clock.wall > 0


def test_no_call_is_queued_once_the_run_has_to_stop(step):
    # Each call asks twice: for its vote, and whether to go on.
    calls = queue(StopAfter(4))
    after, done = calls.apply(step, carry(), CHUNKS, once=True)
    assert done == 3
    (_, steps), done = calls.apply(step, after, CHUNKS, done)
    assert calls.stopped and (int(steps), done) == (7, 7)
    assert calls.apply(step, carry(), CHUNKS, 2)[1] == 2


def test_calls_get_as_long_as_a_signal_may_wait():
    steps_per_call, counts = StepsPerCall(fixed=0), []
    for _ in range(6):
        steps_per_call.update(SECONDS_PER_CALL / 100)
        counts.append(steps_per_call.count)
    # Never more than four times as many as before, as the first calls are short.
    assert counts == [4, 16, 64, 100, 100, 100]
    assert steps_per_call.is_short
    steps_per_call.update(SECONDS_PER_CALL * 3)
    assert steps_per_call.count == 1
    assert not steps_per_call.is_short  # so that no other call is queued behind it
    fixed = StepsPerCall(fixed=7)
    fixed.update(1e-3)
    assert fixed.count == 7
