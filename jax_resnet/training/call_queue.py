"""Calls of many steps, queued so that the device never waits for the host."""

import dataclasses
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from time import monotonic
from typing import Any

import jax

from jax_resnet.checkpoint.history import Clock
from jax_resnet.distributed.mesh import DeviceMesh
from jax_resnet.distributed.processes import Processes
from jax_resnet.runtime.signals import Interrupt
from jax_resnet.training.input_pipeline import Chunk
from jax_resnet.training.multi_step import MultiStep, copy_arrays

# With one call queued ahead, a signal is answered after two calls at most.
SECONDS_PER_CALL = 0.7
# Longer calls, of one slow step each, are not queued ahead.
LONG_CALL_SECONDS = 1.0

# Takes the results of a call, the steps done by then, and the seconds it took.
Callback = Callable[[Any, int, float], None]


@dataclass
class StepsPerCall:
    """Adapts the number of steps in a call to the device's speed."""

    fixed: int  # the number that the user has set; 0 adapts it
    count: int = 1  # the number for the next call
    measured: float = 0.0  # seconds of a step in this process; 0 before the first call
    agreed: float = 0.0  # the greatest of these in all processes, some calls ago

    def __post_init__(self) -> None:
        self.count = self.fixed or 1

    @property
    def is_short(self) -> bool:
        """Whether a call is short enough for another to be queued behind it."""
        return self.count * self.agreed <= LONG_CALL_SECONDS

    def update(self, seconds_per_step: float) -> None:
        """Takes the seconds of a step that all processes agree on."""
        self.agreed = seconds_per_step
        if not self.fixed and seconds_per_step > 0:
            wanted = int(SECONDS_PER_CALL / max(seconds_per_step, 1e-6))
            self.count = max(1, min(wanted, 4 * self.count))


@dataclass(frozen=True)
class _Call:
    results: Any
    vote: Any
    count: int
    done: int
    steps_per_call: StepsPerCall
    callback: Callback | None


class CallQueue:
    """Queues calls of steps, one ahead of the one at work, until a run has to stop.

    The results of a call are read when the next one is queued. The queue decides when
    something is computed and read, never what. A number of ``steps_per_call`` of 0
    adapts it to the device's speed.

    Attributes:
        stopped: whether the run has to stop; no call is queued after that.
        clock: the seconds spent, from when the queue was made to the last call whose
            results were read.
    """

    def __init__(
        self,
        devices: DeviceMesh,
        processes: Processes,
        interrupt: Interrupt,
        *,
        steps_per_call: int,
        clock: Clock,
    ):
        self.stopped = False
        self.clock = dataclasses.replace(clock)
        self._devices = devices
        self._processes = processes
        self._is_alone = processes.count == 1
        self._interrupt = interrupt
        self._steps_per_call: dict[MultiStep, StepsPerCall] = defaultdict(
            lambda: StepsPerCall(steps_per_call)
        )
        self._queued: deque[_Call] = deque()
        self._voted_to_stop = False
        self._last_read = monotonic()

    def apply(
        self,
        step: MultiStep,
        carry: Any,
        chunks: Iterable[Chunk],
        done: int = 0,
        *,
        constants: tuple[Any, ...] = (),
        callback: Callback | None = None,
        once: bool = False,
    ) -> tuple[Any, int]:
        """Applies a step to chunks of images, in as many calls as it takes.

        The carry is a pair and donated; its second part is read after each call and
        goes to the callback. ``done`` steps of the epoch or evaluation were done
        before, and the chunks begin with the next one. With ``once``, a single call is
        queued. Returns the carry after the steps, and the number of steps done.
        """
        size = self._steps_per_call[step]
        for chunk in chunks:
            while done < chunk.end and not self.stopped:
                count = min(size.count, chunk.end - done)
                carry = step(carry, count, *chunk.arrays, *constants)
                done += count
                vote = self._processes.vote(
                    self._devices,
                    stop=self._wants_to_stop(size),
                    seconds_per_step=size.measured,
                )
                results = copy_arrays(carry[1])
                self._queued.append(_Call(results, vote, count, done, size, callback))
                self._read(leave=int(size.is_short))
                # A process that is alone need not wait for its vote to be read.
                self.stopped = self._voted_to_stop or (
                    self._is_alone and self._wants_to_stop(size)
                )
                if once:
                    return carry, done
            if self.stopped:
                break
        return carry, done

    def looks_ahead(self, step: MultiStep) -> bool:
        """Whether another call is queued before the results of one are read."""
        return self._steps_per_call[step].is_short

    def wait(self) -> None:
        """Waits until all calls are done and their results are read."""
        self._read(leave=0)

    def _wants_to_stop(self, size: StepsPerCall) -> bool:
        # One call is queued, and the one after it would end after the time is up. A
        # vote is read a call later, when one more has been queued.
        calls = 2 if self._is_alone else 4
        return self._interrupt.is_due(calls * size.count * size.measured)

    def _read(self, leave: int) -> None:
        """Reads the results of all queued calls but the last ones."""
        while len(self._queued) > leave:
            call = self._queued.popleft()
            results, vote = jax.device_get((call.results, call.vote))
            stop, seconds_per_step = vote
            now = monotonic()
            seconds, self._last_read = now - self._last_read, now
            self.clock.wall += seconds
            self.clock.epoch += seconds
            call.steps_per_call.measured = seconds / call.count
            call.steps_per_call.update(float(seconds_per_step))
            self._voted_to_stop = self._voted_to_stop or bool(stop)
            if call.callback is not None:
                call.callback(results, call.done, seconds)
