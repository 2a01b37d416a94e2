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
    counts training images. ``image_size``, in pixels, is present if the config has
    ``image_sizes``.
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
    image_size: NotRequired[int]


@dataclass
class Clock:
    """Seconds that a run has spent, in all its starts together."""

    wall: float = 0.0  # in the whole run
    epoch: float = 0.0  # in the unfinished epoch
    training: float = 0.0  # in the training steps of that epoch


@dataclass(frozen=True)
class RunInfo:
    """What is run, and where."""

    title: str  # name of the run, such as ``resnet56``
    command: str
    started: str  # ISO date and time of the first start
    device: str  # kind and number of devices at the first start
    platform: str  # operating system and processor at the first start
    versions: dict[str, str]  # see :func:`installed_versions`
    parameters: int  # number of trainable scalars
    epochs: int  # number of epochs of the finished run
    dataset: str  # name of the data set
    n_train: int  # number of training images
    n_eval: int  # number of validation images
    eval_name: str  # name of the validation split, which also selects the best epoch
    batch_size: int  # number of images in a step
    seed: int
    dtype: str  # of the computation
    changes: tuple[str, ...] = ()  # accepted changes of the config, each with its step
    # the model that training started from, with the parts that are new or frozen; ""
    # for random weights
    initial_model: str = ""
    teacher: str = ""  # the teacher for distillation; "" without one
    evaluated: str = ""  # the weights that are evaluated; "" for those of the last step
    image_sizes: str = ""  # sizes of the training images; "" for that of the data set


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
