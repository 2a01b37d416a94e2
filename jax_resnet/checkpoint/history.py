"""The history of a training run: what ran on what, and its epochs."""

import math
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import NotRequired

from typing_extensions import TypedDict

from jax_resnet import __version__


class EpochRecord(TypedDict):
    """One epoch, counted from 1; a line of ``metrics.jsonl``.

    Top-1 and top-5 are fractions in [0, 1], losses nats per image. ``step`` is the
    number of steps done and ``learning_rate`` that of the last one.
    ``images_per_second`` counts training images. ``skipped_steps``, those left out
    because they were not finite, is there only if there were any; ``image_size``, the
    side of the training images in pixels, only where the config has ``image_sizes``.
    """

    epoch: int
    step: int
    train_loss: float
    train_top1: float
    val_loss: float
    val_top1: float
    val_top5: float
    learning_rate: float
    seconds: float
    images_per_second: float
    skipped_steps: NotRequired[int]
    image_size: NotRequired[int]


@dataclass
class Clock:
    """Seconds spent, carried over from the earlier starts of a resumed run.

    Attributes:
        wall: in the whole run before this start.
        epoch: in the unfinished epoch.
        training: in that epoch's training steps, without its evaluation.
    """

    wall: float = 0.0
    epoch: float = 0.0
    training: float = 0.0


@dataclass(frozen=True)
class RunInfo:
    """What ran on what. ``asdict`` and ``RunInfo(**d)`` take it through JSON.

    A resumed run passes the info of its first start, from the checkpoint.

    Attributes:
        title: Name of the run, such as ``resnet56``.
        command: The command line.
        started: ISO date and time of the first start.
        device: Kind and number of devices.
        platform: Operating system and processor.
        versions: From :func:`installed_versions`.
        parameters: Number of trainable numbers in the model.
        epochs: How many a finished run has.
        dataset: Name of the data set.
        n_train: Images trained on in an epoch.
        n_eval: Images of the split validated on.
        eval_name: That split, which also selects the best epoch: ``test``, ``holdout``.
        batch_size: Images in a step.
        seed: Of the run.
        dtype: Compute dtype.
        changes: What was changed in the config on the way, and from where on.
        initial_model: Whose weights it started from; "" if they were drawn.
        teacher: Whose outputs it learns beside the labels; "" for nobody's.
        evaluated: Which weights are, and saved as the model; "" for the last step's.
        image_sizes: That it trains at; "" for the data set's own throughout.
    """

    title: str
    command: str
    started: str
    device: str
    platform: str
    versions: dict[str, str]
    parameters: int
    epochs: int
    dataset: str
    n_train: int
    n_eval: int
    eval_name: str
    batch_size: int
    seed: int
    dtype: str
    changes: tuple[str, ...] = ()
    initial_model: str = ""
    teacher: str = ""
    evaluated: str = ""
    image_sizes: str = ""


def installed_versions() -> dict[str, str]:
    """Returns the versions of Python and of the packages that shape a result."""
    packages = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
    return {
        "python": platform.python_version(),
        **{package: metadata.version(package) for package in packages},
        "jax_resnet": __version__,
    }


def best_epoch(history: Sequence[EpochRecord]) -> EpochRecord | None:
    """Returns the record of highest ``val_top1``, the first of equals; never a NaN."""
    valid = [record for record in history if not math.isnan(record["val_top1"])]
    return max(valid, key=lambda record: record["val_top1"], default=None)


def throughput(history: Sequence[EpochRecord]) -> float | None:
    """Returns the median over epochs of the images per second; None of no epochs."""
    speeds = [record["images_per_second"] for record in history]
    return statistics.median(speeds) if speeds else None
