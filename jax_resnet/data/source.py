"""The interface of a data set as it is stored."""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int32, Shaped, UInt8


@dataclass(frozen=True)
class Split:
    """Images and their labels."""

    images: UInt8[np.ndarray, "n h w c"]
    labels: Int32[np.ndarray, " n"]
    names: Shaped[np.ndarray, " n"] | None = None  # of the user's own images

    def select(self, index: slice | Bool[np.ndarray, " n"]) -> "Split":
        """Returns the images of a slice or a mask."""
        names = None if self.names is None else self.names[index]
        return Split(self.images[index], self.labels[index], names)


@dataclass(frozen=True)
class DatasetInfo:
    """A data set without its images."""

    name: str  # TFDS name, ``synthetic``, or such as ``folder/pets``
    version: str  # such as ``3.0.2``
    image_shape: tuple[int, int, int]  # height, width, channels
    class_names: tuple[str, ...]  # in the order of the labels
    superclass_names: tuple[str, ...]  # empty if the data set has none
    superclass_of: tuple[int, ...]  # index of each class's superclass, or empty
    # mean and standard deviation of each channel of x/255 over the training images, or
    # over those of the model that training started from
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.class_names)


@dataclass(frozen=True)
class Source(ABC):
    """A data set as it is stored: its splits, and how to decode them."""

    info: DatasetInfo  # empty ``mean`` and ``std`` are computed from the images
    # for each stored split, the number of images in each of its files
    shard_lengths: Mapping[str, tuple[int, ...]]
    location: Path | None  # the folder of the files; images without one are not cached

    @cached_property
    def fingerprint(self) -> str:
        """Identifies the state of the files, whose decoded images are cached."""
        assert self.location is not None
        files = sorted(path for path in self.location.rglob("*") if path.is_file())
        stats = [(str(path.relative_to(self.location)), path.stat()) for path in files]
        return json.dumps([(n, s.st_size, s.st_mtime_ns) for n, s in stats])

    @abstractmethod
    def decode(self, split: str) -> Split:
        """Decodes a stored split in its order; UserError if it is damaged."""
