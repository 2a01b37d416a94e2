"""Shows the progress of a run: a bar on a terminal, plain lines in a log file."""

import sys
import time
from collections.abc import Callable

from tqdm import tqdm

from jax_resnet.checkpoint.history import EpochRecord
from jax_resnet.runtime import text

SECONDS_BETWEEN_LINES = 20.0


class Progress:
    """Shows steps, images per second and the time left.

    Args:
        first_step: number of steps done before this start.
        total_steps: number of steps of the whole run.
        steps_per_epoch: number of training steps in an epoch.
        batch_size: number of images in a step.
        say: prints a line; None uses standard output and, on a terminal, a bar.
    """

    def __init__(
        self,
        *,
        first_step: int,
        total_steps: int,
        steps_per_epoch: int,
        batch_size: int,
        say: Callable[[str], None] | None = None,
    ):
        self._step = first_step
        self._total_steps = total_steps
        self._steps_per_epoch = steps_per_epoch
        self._batch_size = batch_size
        self._last_line = time.monotonic()
        self._pace = Pace(self._last_line)
        self._bar = tqdm(
            total=total_steps * batch_size,
            initial=first_step * batch_size,
            unit_scale=True,
            dynamic_ncols=True,
            bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt} images [{elapsed}{postfix}]",
            disable=say is not None or not sys.stderr.isatty(),
        )
        self._print = say or text.say

    def trained(self, step: int, loss: float) -> None:
        """Shows that training has reached a step, with the epoch's mean loss so far."""
        now, steps = time.monotonic(), step - self._step
        self._pace.trained(steps, now)
        self._step = step
        speed = self._batch_size / self._pace.step
        shown = f"{speed:,.0f} images/s  {self._time_left(speed)} left"
        self._bar.set_postfix_str(f"loss {loss:.3f}  {shown}", refresh=False)
        self._bar.update(steps * self._batch_size)
        if self._bar.disable and now - self._last_line > SECONDS_BETWEEN_LINES:
            self._last_line = now
            epoch = (step - 1) // self._steps_per_epoch
            self._say(
                f"epoch {epoch + 1} step {step - epoch * self._steps_per_epoch}/"
                f"{self._steps_per_epoch}  loss {loss:.4f}  {shown}"
            )

    def epoch(self, record: EpochRecord) -> None:
        """Shows the record of an epoch."""
        self._last_line = time.monotonic()
        self._pace.evaluated(self._last_line)
        # A run that resumed to evaluate has not measured a step.
        step = self._pace.step
        speed = self._batch_size / step if step else record["images_per_second"]
        self._say(
            f"epoch {record['epoch']}/{self._total_steps // self._steps_per_epoch}  "
            f"train loss {record['train_loss']:.4f} "
            f"top-1 {100 * record['train_top1']:.2f} %  "
            f"val loss {record['val_loss']:.4f} "
            f"top-1 {100 * record['val_top1']:.2f} %  "
            f"{record['seconds']:.1f} s  {record['images_per_second']:,.0f} images/s  "
            f"{self._time_left(speed)} left"
        )

    def close(self) -> None:
        """Leaves the bar as it is."""
        self._bar.close()

    def _say(self, line: str) -> None:
        if self._bar.disable:
            self._print(line)
        else:
            self._bar.write(line)

    def _time_left(self, images_per_second: float) -> str:
        steps = self._total_steps - self._step
        epochs = -(-steps // self._steps_per_epoch)
        training = steps * self._batch_size / images_per_second
        return duration(training + epochs * self._pace.evaluation)


class Pace:
    """Measures the mean step and the latest evaluation, in seconds."""

    def __init__(self, started: float):
        self.evaluation = 0.0  # before the first one
        self._last = started
        self._calls = self._steps = 0
        self._seconds = 0.0  # of the steps

    @property
    def step(self) -> float:
        """The mean of the steps; 0 before the first one."""
        return self._seconds / max(1, self._steps)

    def trained(self, steps: int, now: float) -> None:
        """Takes the time at which a call of so many steps is done."""
        self._calls += 1
        if self._calls == 2:  # the first one warmed the device up
            self._steps, self._seconds = 0, 0.0
        self._steps += steps
        self._seconds += now - self._last
        self._last = now

    def evaluated(self, now: float) -> None:
        """Takes the time at which an epoch is evaluated."""
        self.evaluation = now - self._last
        self._last = now


def duration(seconds: float) -> str:
    """Returns seconds as people say them, such as ``7 min`` or ``3 h 20 min``."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    if minutes < 100:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"
