"""The epochs of a run: the host queues work for the device and never waits for it.

Each call's results are read one call late, when the next is already queued. Nothing
in here influences what is computed, only when it is computed and read.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_resnet.errors import UserError
from jax_resnet.history import Clock, EpochRecord
from jax_resnet.interrupt import Interrupt
from jax_resnet.programs import Programs
from jax_resnet.progress import Progress
from jax_resnet.state import TrainState
from jax_resnet.steps import Sums

# A signal is answered, and progress shown, after two calls at most.
SECONDS_PER_CALL = 1.5

_copy = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree))


class DivergedError(UserError):
    """The loss is no longer finite."""


@dataclass(frozen=True)
class Work:
    """What there is to do.

    Attributes:
        programs: compiled.
        order_key: of the order of the images.
        step_key: of the augmentations.
        train_split: images and labels on the device.
        eval_split: images and labels on the device, padded to whole batches.
        epochs: of the whole run.
        learning_rates: of the last step of each epoch.
        steps_per_call: 0 adapts it to the device's speed.
        max_skipped_steps: in an epoch, for not being finite.
    """

    programs: Programs
    order_key: jax.Array
    step_key: jax.Array
    train_split: tuple[jax.Array, jax.Array]
    eval_split: tuple[jax.Array, jax.Array]
    epochs: int
    learning_rates: list[float]
    steps_per_call: int
    max_skipped_steps: int


@dataclass
class _Pace:
    """How many steps make a call of about :data:`SECONDS_PER_CALL`."""

    fixed: int
    count: int = field(init=False)
    seconds: float = 0.0  # of the last call

    def __post_init__(self) -> None:
        self.count = self.fixed or 1

    def update(self, count: int, seconds: float) -> None:
        self.seconds = seconds
        if not self.fixed:
            wanted = int(SECONDS_PER_CALL / max(seconds / count, 1e-6))
            self.count = max(1, min(wanted, 4 * self.count))


class Loop:
    """Trains and evaluates from a state, an epoch's sums and a history onwards.

    Args:
        work: what there is to do.
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
        history: list[EpochRecord],
        clock: Clock,
        progress: Progress,
        interrupt: Interrupt,
        on_epoch: Callable[[TrainState], None],
    ):
        self._work = work
        self._history = history
        self.clock = clock
        self._progress = progress
        self._interrupt = interrupt
        self._on_epoch = on_epoch
        self._late: deque[tuple[Any, Callable[[Any], None]]] = deque()
        self._train_pace = _Pace(work.steps_per_call)
        self._eval_pace = _Pace(work.steps_per_call)
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
            order = programs.epoch_order(work.order_key, jnp.int32(epoch))
            end = (epoch + 1) * programs.steps_per_epoch
            while step < end:
                count = min(self._train_pace.count, end - step)
                state, sums = programs.train_step(
                    (state, sums), count, *work.train_split, order, work.step_key
                )
                step += count
                self._read_late(
                    _copy(sums), partial(self._trained, step=step, count=count)
                )
                if self._is_due(self._train_pace):
                    self._read_all()
                    return state, sums
            snapshot = _copy((state, sums))
            if not self._evaluate(*snapshot):
                self._read_all()
                return state, sums
            sums = Sums.zeros()
        self._read_all()
        return state, sums

    def _evaluate(self, state: TrainState, train_sums: Sums) -> bool:
        """Queues the evaluation; whether it was queued to its end."""
        work, programs = self._work, self._work.programs
        carry = (Sums.zeros(), jnp.int32(0))
        done = 0
        while done < programs.eval_steps:
            count = min(self._eval_pace.count, programs.eval_steps - done)
            carry = programs.eval_step(
                carry, count, state.params, state.batch_stats, *work.eval_split
            )
            done += count
            sums = _copy(carry[0])
            if done == programs.eval_steps:
                results = (state, train_sums, sums)
                self._read_late(results, partial(self._finish_epoch, count=count))
            else:
                self._read_late(sums, partial(self._evaluated, count=count))
            if done < programs.eval_steps and self._is_due(self._eval_pace):
                return False
        return True

    def _is_due(self, pace: _Pace) -> bool:
        # One call is queued, and the one after it would end after the time is up.
        return self._interrupt.is_due(2 * pace.seconds)

    def _read_late(self, results: Any, callback: Callable[[Any], None]) -> None:
        self._late.append((results, callback))
        if len(self._late) > 1:
            self._read_one()

    def _read_all(self) -> None:
        while self._late:
            self._read_one()

    def _read_one(self) -> None:
        results, callback = self._late.popleft()
        callback(jax.device_get(results))

    def _seconds_since_last_result(self) -> float:
        now = time.monotonic()
        seconds, self._last_result = now - self._last_result, now
        self.clock.wall += seconds
        self.clock.epoch += seconds
        return seconds

    def _trained(self, sums: Sums, *, step: int, count: int) -> None:
        seconds = self._seconds_since_last_result()
        self.clock.training += seconds
        self._train_pace.update(count, seconds)
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

    def _evaluated(self, _: Sums, *, count: int) -> None:
        self._eval_pace.update(count, self._seconds_since_last_result())

    def _finish_epoch(
        self, results: tuple[TrainState, Sums, Sums], *, count: int
    ) -> None:
        state, train, evaluation = results
        self._evaluated(evaluation, count=count)
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
        if skipped:
            record["skipped_steps"] = skipped
        self._history.append(record)
        self.clock.epoch = self.clock.training = 0.0
        self._progress.epoch(record)
        self._on_epoch(state)
