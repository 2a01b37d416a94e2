"""The interface of a data set as it is stored."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int32, UInt8

Arrays = tuple[UInt8[np.ndarray, "n h w c"], Int32[np.ndarray, " n"]]


@dataclass(frozen=True)
class DatasetInfo:
    """A data set without its images."""

    name: str  # TFDS name, or ``synthetic``
    version: str  # such as ``3.0.2``
    image_shape: tuple[int, int, int]  # height, width, channels
    class_names: tuple[str, ...]  # in the order of the labels
    superclass_names: tuple[str, ...]  # empty if the data set has none
    # a superclass index for each class; empty if there are none
    superclass_of: tuple[int, ...]
    # mean and standard deviation of each channel of x/255 over the training images
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.class_names)


@dataclass(frozen=True)
class Source(ABC):
    """A data set as it is stored: its splits, and how to decode them."""

    # names and shapes; ``mean`` and ``std`` are empty if they are to be computed from
    # the images
    info: DatasetInfo
    # for each stored split, the number of images in each of its files
    shard_lengths: Mapping[str, tuple[int, ...]]
    # the folder whose files hold the images; None for a source that makes its images,
    # which are then not cached
    location: Path | None

    @abstractmethod
    def decode(self, split: str) -> Arrays:
        """Decodes a stored split in its order; UserError if it is damaged."""
