"""What a run has done so far: its epochs, its seconds, and what it runs on."""

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
    """The record of an epoch, counted from 1; a line of ``metrics.jsonl``.

    Losses are in nats per image; top-1 and top-5 are fractions. ``step`` is the number
    of steps done and ``learning_rate`` that of the last one. ``images_per_second``
    counts training images. ``skipped_steps`` is present if steps were not finite, and
    ``image_size``, in pixels, if the config has ``image_sizes``.
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
    """Seconds that a run has spent, in all its starts together.

    Attributes:
        wall: in the whole run.
        epoch: in the unfinished epoch.
        training: in the training steps of that epoch.
    """

    wall: float = 0.0
    epoch: float = 0.0
    training: float = 0.0


@dataclass(frozen=True)
class RunInfo:
    """What is run, and where.

    Attributes:
        title: name of the run, such as ``resnet56``.
        command: the command line.
        started: ISO date and time of the first start.
        device: kind and number of devices at the first start.
        platform: operating system and processor at the first start.
        versions: see :func:`installed_versions`.
        parameters: number of trainable scalars.
        epochs: number of epochs of the finished run.
        dataset: name of the data set.
        n_train: number of training images.
        n_eval: number of validation images.
        eval_name: name of the validation split, which also selects the best epoch.
        batch_size: number of images in a step.
        seed: seed of the run.
        dtype: compute dtype.
        changes: accepted changes of the config, each with its step.
        initial_model: the model that training started from; "" for random weights.
        teacher: the teacher for distillation; "" without one.
        evaluated: the weights that are evaluated; "" for those of the last step.
        image_sizes: sizes of the training images; "" for that of the data set.
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
    """Returns the versions of Python and of the packages that affect results."""
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
    """Returns the median images per second; None without epochs."""
    speeds = [record["images_per_second"] for record in history]
    return statistics.median(speeds) if speeds else None
