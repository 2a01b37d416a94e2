"""The epochs of a run: the host queues work for the device and never waits for it.

Each call's results are read one call late, when the next is already queued. Nothing
in here influences what is computed, only when it is computed and read.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_resnet.errors import UserError
from jax_resnet.history import Clock, EpochRecord
from jax_resnet.interrupt import Interrupt
from jax_resnet.pace import Pace
from jax_resnet.processes import Processes
from jax_resnet.programs import Programs
from jax_resnet.progress import Progress
from jax_resnet.state import TrainState
from jax_resnet.sums import Sums

_copy = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree))


class DivergedError(UserError):
    """The loss is no longer finite."""


@dataclass(frozen=True)
class Work:
    """What there is to do.

    Attributes:
        programs: compiled, and their feed loaded.
        step_key: of the augmentations.
        epochs: of the whole run.
        learning_rates: of the last step of each epoch.
        steps_per_call: 0 adapts it to the device's speed.
        max_skipped_steps: in an epoch, for not being finite.
    """

    programs: Programs
    step_key: jax.Array
    epochs: int
    learning_rates: list[float]
    steps_per_call: int
    max_skipped_steps: int


class Loop:
    """Trains and evaluates from a state, an epoch's sums and a history onwards.

    Args:
        work: what there is to do.
        processes: that do it.
        history: the records of the epochs done; it grows.
        clock: the seconds spent before.
        progress: shown to people.
        interrupt: polled between calls.
        on_epoch: called with the state at the end of each epoch, in host memory,
            once the epoch's record is the last of the history.
    """

    def __init__(
        self,
        work: Work,
        *,
        processes: Processes,
        history: list[EpochRecord],
        clock: Clock,
        progress: Progress,
        interrupt: Interrupt,
        on_epoch: Callable[[TrainState], None],
    ):
        self._work = work
        self._processes = processes
        self._history = history
        self.clock = clock
        self._progress = progress
        self._interrupt = interrupt
        self._on_epoch = on_epoch
        self._late: deque[tuple[Any, Any, Pace, Callable[[Any], None]]] = deque()
        self._train_pace = Pace(work.steps_per_call)
        self._eval_pace = Pace(work.steps_per_call)
        self._statistics_pace = Pace(work.steps_per_call)
        self._voted_to_stop = False
        self._last_result = time.monotonic()

    def run(self, state: TrainState, sums: Sums) -> tuple[TrainState, Sums]:
        """Runs to the last epoch, or until a signal; returns where it stopped.

        Args:
            state: after any number of steps; donated.
            sums: of the epoch that the history does not hold yet; donated.

        Raises:
            DivergedError: as soon as a loss that is not finite is read.
        """
        work, programs = self._work, self._work.programs
        self._last_result = time.monotonic()
        step = int(state.step)
        for epoch in range(len(self._history), work.epochs):
            first = epoch * programs.steps_per_epoch
            train_step = programs.train_step_in(epoch)
            for piece in programs.feed.training(epoch, step - first):
                while step < first + piece.end:
                    count = min(self._train_pace.count, first + piece.end - step)
                    state, sums = train_step(
                        (state, sums), count, *piece.arrays, work.step_key
                    )
                    step += count
                    read = partial(self._trained, step=step, count=count)
                    self._read_late(_copy(sums), self._train_pace, read)
                    if self._is_due(self._train_pace):
                        self._read_all()
                        return state, sums
            finished = self._with_statistics(state, epoch)
            if finished is None or not self._evaluate(*_copy((finished, sums))):
                self._read_all()
                return state, sums
            state, sums = finished, programs.zeros()
        self._read_all()
        return state, sums

    def _with_statistics(self, state: TrainState, epoch: int) -> TrainState | None:
        """Queues the statistics of the average; None if not to their end."""
        programs, pace = self._work.programs, self._statistics_pace
        if programs.statistics_step is None or state.average is None:
            return state
        done = programs.steps_per_epoch - programs.statistics_steps
        carry = programs.statistics_carry(
            state, epoch * programs.steps_per_epoch + done
        )
        for piece in programs.feed.training(epoch, done):
            while done < piece.end:
                count = min(pace.count, piece.end - done)
                constants = (state.average.params, *piece.arrays, self._work.step_key)
                carry = programs.statistics_step(carry, count, *constants)
                done += count
                read = partial(self._evaluated, pace=pace, count=count)
                self._read_late(_copy(carry[1]), pace, read)
                if self._is_due(pace):
                    return None
        return programs.with_statistics(state, carry[0])

    def _evaluate(self, state: TrainState, train_sums: Sums) -> bool:
        """Queues the evaluation; whether it was queued to its end."""
        programs, pace = self._work.programs, self._eval_pace
        sums = programs.zeros()
        done = 0
        for piece in programs.feed.evaluation():
            carry = programs.eval_carry(sums)
            while done < piece.end:
                count = min(pace.count, piece.end - done)
                carry = programs.eval_step(carry, count, state.weights, *piece.arrays)
                done += count
                sums = _copy(carry[0])
                if done == programs.feed.eval_steps:
                    results = (state, train_sums, sums)
                    self._read_late(
                        results, pace, partial(self._finish_epoch, count=count)
                    )
                    return True
                read = partial(self._evaluated, pace=pace, count=count)
                self._read_late(sums, pace, read)
                if self._is_due(pace):
                    return False
        raise AssertionError("the last piece ends with the last step")

    def _is_due(self, pace: Pace) -> bool:
        if self._processes.count > 1:
            return self._voted_to_stop
        return self._wants_to_stop(pace)

    def _wants_to_stop(self, pace: Pace) -> bool:
        # One call is queued, and the one after it would end after the time is up. A
        # vote is read a call later, when one more has been queued.
        calls = 2 if self._processes.count == 1 else 4
        return self._interrupt.is_due(calls * pace.seconds)

    def _read_late(
        self, results: Any, pace: Pace, callback: Callable[[Any], None]
    ) -> None:
        vote = self._processes.vote(
            self._work.programs.devices,
            stop=self._wants_to_stop(pace),
            seconds_per_step=pace.seconds_per_step,
        )
        self._late.append((results, vote, pace, callback))
        if len(self._late) > 1:
            self._read_one()

    def _read_all(self) -> None:
        while self._late:
            self._read_one()

    def _read_one(self) -> None:
        results, vote, pace, callback = self._late.popleft()
        results, (stop, seconds_per_step) = jax.device_get((results, vote))
        callback(results)
        self._voted_to_stop = self._voted_to_stop or bool(stop)
        pace.update(float(seconds_per_step))

    def _seconds_since_last_result(self) -> float:
        now = time.monotonic()
        seconds, self._last_result = now - self._last_result, now
        self.clock.wall += seconds
        self.clock.epoch += seconds
        return seconds

    def _trained(self, sums: Sums, *, step: int, count: int) -> None:
        seconds = self._seconds_since_last_result()
        self.clock.training += seconds
        self._train_pace.seconds_per_step = seconds / count
        if sums.bad_step >= 0:
            raise DivergedError(
                f"the loss is not finite at step {int(sums.bad_step)}: try a lower "
                "optimizer.learning_rate or some optimizer.warmup_epochs, in another "
                "--workdir; the last good checkpoint is kept"
            )
        if self._skipped(sums, step) > self._work.max_skipped_steps:
            raise DivergedError(
                f"{self._skipped(sums, step)} steps of the epoch were not finite by "
                f"step {step}, more than train.max_skipped_steps: try a lower "
                "optimizer.learning_rate, in another --workdir; the last good "
                "checkpoint is kept"
            )
        self._progress.trained(step, float(sums.loss) / max(int(sums.count), 1))

    def _skipped(self, sums: Sums, step: int) -> int:
        """Steps up to ``step`` that the sums of its epoch do not count."""
        programs = self._work.programs
        steps = (step - 1) % programs.steps_per_epoch + 1
        return steps - int(sums.count) // programs.batch_size

    def _evaluated(self, _: Any, *, pace: Pace, count: int) -> None:
        pace.seconds_per_step = self._seconds_since_last_result() / count

    def _finish_epoch(
        self, results: tuple[TrainState, Sums, Sums], *, count: int
    ) -> None:
        state, train, evaluation = results
        self._evaluated(evaluation, pace=self._eval_pace, count=count)
        if not np.isfinite(evaluation.loss):
            raise DivergedError(
                f"the validation loss is not finite at step {int(state.step)}: try a "
                "lower optimizer.learning_rate, in another --workdir; the last good "
                "checkpoint is kept"
            )
        epoch = len(self._history) + 1
        programs = self._work.programs
        images = programs.steps_per_epoch * programs.batch_size
        skipped = self._skipped(train, int(state.step))
        record = EpochRecord(
            epoch=epoch,
            step=int(state.step),
            train_loss=float(train.loss) / max(int(train.count), 1),
            train_top1=int(train.top1) / max(int(train.count), 1),
            val_loss=float(evaluation.loss) / int(evaluation.count),
            val_top1=int(evaluation.top1) / int(evaluation.count),
            val_top5=int(evaluation.top5) / int(evaluation.count),
            learning_rate=self._work.learning_rates[epoch - 1],
            seconds=self.clock.epoch,
            images_per_second=images / self.clock.training,
        )
        image_size = programs.image_sizes.at(epoch - 1)
        if image_size is not None:
            record["image_size"] = image_size
        if skipped:
            record["skipped_steps"] = skipped
        self._history.append(record)
        self.clock.epoch = self.clock.training = 0.0
        self._progress.epoch(record)
        self._on_epoch(state)
