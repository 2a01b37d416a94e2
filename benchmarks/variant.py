"""What the throughput benchmark's programs share: names, options, data, a contract."""

import dataclasses
import functools
import resource
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int32, UInt8

from jax_resnet import config
from jax_resnet.data import DatasetInfo

# In the table's order. Those that end in -augment or -alone make batches, and train
# nothing.
LABELS = {
    "ours-loop": "jax_resnet, the steps looped on the device",
    "ours-dispatch": "jax_resnet, a dispatch per step",
    "torch-eager": "PyTorch, eager",
    "torch-eager-nhwc": "PyTorch, eager, channels_last",
    "torch-compile": "PyTorch, torch.compile, channels_last",
    "torch-graph": "PyTorch, torch.compile, channels_last, a CUDA graph per step",
    "torch-loader": "PyTorch, eager, DataLoader with torchvision's transforms",
    "ours-augment": "jax_resnet, batches alone",
    "torch-augment": "PyTorch, torch.compile, batches alone",
    "torch-loader-alone": "PyTorch, DataLoader with torchvision's transforms, alone",
}
TRAIN_IMAGES = 50_000
NUM_CLASSES = 100
WARM_UP_STEPS = 3  # PyTorch runs, then captures, then replays its CUDA graphs


class SkippedError(Exception):
    """A variant cannot run here, for the reason given."""


@dataclasses.dataclass(frozen=True)
class Options:
    """The work, the same for every variant.

    Attributes:
        device: ``"cpu"`` or ``"gpu"``.
        depth: of the ResNet.
        batch_size: images of a step.
        dtype: ``"float32"``, or ``"bfloat16"`` for convolutions and activations.
        augment: ``"recipe"`` for the reference recipe's augmentations, or ``"none"``
            for normalisation alone.
    """

    device: str
    depth: int
    batch_size: int
    dtype: str
    augment: str

    def describe(self) -> str:
        """The work for people."""
        return (
            f"ResNet-{self.depth}, batch {self.batch_size}, {self.dtype}, "
            f"augmentation: {self.augment}; forward, backward, SGD with momentum and "
            "weight decay"
        )


class Variant:
    """A program that trains, or only makes batches, a step at a time.

    What the constructor does is not timed. It raises :class:`SkippedError` where the
    program cannot run.

    Attributes:
        gpu: the GPU's name, if there is one in use.
        versions: of the packages that the result depends on.
    """

    gpu: str = ""
    versions: dict[str, str]

    def warm_up(self) -> None:
        """Compiles, and runs the first ``WARM_UP_STEPS`` steps to their end."""
        self.run(WARM_UP_STEPS)

    def run(self, steps: int) -> None:
        """Runs steps, and returns when the device has finished them."""
        raise NotImplementedError

    def pause(self) -> None:
        """Comes after each round: stops what would work on while others run."""

    def peak_memory(self) -> int:
        """The most bytes held so far: on the device, or in this process on a CPU."""
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@functools.cache
def random_split() -> tuple[UInt8[np.ndarray, "n 32 32 3"], Int32[np.ndarray, " n"]]:
    """Noise in the size of CIFAR-100's training split, and labels."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (TRAIN_IMAGES, 32, 32, 3), np.uint8)
    return images, rng.integers(0, NUM_CLASSES, TRAIN_IMAGES, np.int32)


def random_info() -> DatasetInfo:
    """Describes images of CIFAR-100's shape and classes that mean nothing."""
    mean, std = normalization()
    return DatasetInfo(
        name="random",
        version="1",
        image_shape=(32, 32, 3),
        class_names=tuple(map(str, range(NUM_CLASSES))),
        superclass_names=(),
        superclass_of=(),
        mean=mean,
        std=std,
    )


def reference_augmentation(options: Options) -> tuple[list[str], dict[str, Any]]:
    """The names of the augmentations in order, and the settings of each."""
    path = Path(__file__).parent.parent / "configs" / "resnet56.py"
    settings = config.to_json(config.load(str(path)))["augment"]
    recipe = settings.pop("transforms")
    return (recipe, settings) if options.augment == "recipe" else (["normalize"], {})


def normalization() -> tuple[tuple[float, ...], tuple[float, ...]]:
    """CIFAR-100's mean and standard deviation of x/255, per channel."""
    return (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)
