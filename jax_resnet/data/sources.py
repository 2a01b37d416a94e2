"""Where the images of a data set come from: prepared files, a cache, or a seed."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int32, UInt8

from jax_resnet.data import cache, synthetic
from jax_resnet.runtime.errors import UserError
from jax_resnet.runtime.files import cache_folder

Normalization = tuple[tuple[float, ...], tuple[float, ...]]  # mean, std of x/255

# CIFAR-100's are those of the reference recipe.
_NORMALIZATION: Mapping[str, Normalization] = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
    "synthetic": ((0.5, 0.5, 0.5), (0.15, 0.15, 0.15)),
}
_HISTOGRAM = "pixel-histogram"  # no split's name has a hyphen


@runtime_checkable
class Source(Protocol):
    """A data set as it is stored: what it has, and its splits by name."""

    @property
    def name(self) -> str:
        """TFDS name, or ``synthetic``."""

    @property
    def version(self) -> str:
        """Of the data set."""

    @property
    def folder(self) -> Path | None:
        """Holds its files; None if it is made quickly, without files."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """In the order of the labels."""

    @property
    def superclass_names(self) -> tuple[str, ...]:
        """Empty if there are none."""

    @property
    def shards(self) -> Mapping[str, tuple[int, ...]]:
        """For each stored split the number of images in each of its files."""

    def fingerprint(self) -> str:
        """Changes when a file changes."""

    def superclass_of(self) -> tuple[int, ...]:
        """A superclass index per class; empty if there are none."""

    def decode(
        self, split: str
    ) -> tuple[UInt8[np.ndarray, "n h w c"], Int32[np.ndarray, " n"]]:
        """Images and labels of a stored split."""


def open_source(name: str, data_dir: str | None) -> Source:
    """Finds a data set, and prepares it if it is missing and can be.

    Args:
      name: as in :func:`jax_resnet.data.load`.
      data_dir: likewise.

    Raises:
      UserError: the data set is unknown, missing or damaged.
    """
    if name == synthetic.NAME:
        return synthetic.Synthetic()
    from jax_resnet.data import prepare, records

    folder = _folder(data_dir)
    prepared = records.open_prepared(name, folder)
    if prepared is None and name in prepare.ARCHIVES:
        prepare.prepare(prepare.ARCHIVES[name], folder)
        prepared = records.open_prepared(name, folder)
    if prepared is None:
        raise UserError(
            f"{name} is not prepared in {folder}: where TensorFlow is installed, run "
            f"tfds build {name} --file_format=array_record --data_dir={folder}"
        )
    return prepared


def is_at_hand(name: str, data_dir: str | None) -> bool:
    """Whether :func:`open_source` would have nothing to prepare or download."""
    if name == synthetic.NAME:
        return True
    from jax_resnet.data import records

    return records.open_prepared(name, _folder(data_dir)) is not None


def _folder(data_dir: str | None) -> Path:
    chosen = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    reason = "it is not a local folder" if "://" in chosen else None
    try:
        folder = Path(chosen).expanduser().absolute()
        (folder / "downloads").exists()  # raises where we may not look
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
    if reason:
        raise UserError(
            f"cannot look for data in {chosen!r} ({reason}): set config.data.dir or "
            "TFDS_DATA_DIR to a folder of your own"
        )
    return folder


def decode(
    source: Source, split: str, cache_dir: str | None
) -> tuple[UInt8[np.ndarray, "n h w c"], Int32[np.ndarray, " n"]]:
    """Returns images and labels of a stored split, by way of the cache."""
    if source.folder is None:
        return source.decode(split)

    def make() -> cache.Arrays:
        return dict(zip(("images", "labels"), source.decode(split), strict=True))

    path = _cache_path(source, cache_dir, split)
    stored = cache.load_or_make(path, source.fingerprint(), make)
    return stored["images"], stored["labels"]


def normalization(source: Source, cache_dir: str | None) -> Normalization:
    """Returns mean and standard deviation of each channel of x/255.

    Those of CIFAR-10 and CIFAR-100 are given. Of others they are exact over the
    whole stored split ``train`` (or else the first), so that they depend neither on
    a split expression nor on the order of the images.
    """
    if given := _NORMALIZATION.get(source.name):
        return given
    split = "train" if "train" in source.shards else next(iter(source.shards))

    def make() -> cache.Arrays:
        images, _ = decode(source, split, cache_dir)
        return {"histogram": _histogram(images)}

    path = _cache_path(source, cache_dir, _HISTOGRAM)
    stored = cache.load_or_make(path, source.fingerprint(), make)
    return _moments(stored["histogram"])


def known_normalization(source: Source, cache_dir: str | None) -> Normalization | None:
    """Returns :func:`normalization`, or None if it would take decoding images."""
    if given := _NORMALIZATION.get(source.name):
        return given
    path = _cache_path(source, cache_dir, _HISTOGRAM)
    stored = cache.load(path, source.fingerprint())
    return None if stored is None else _moments(stored["histogram"])


def _histogram(images: UInt8[np.ndarray, "n h w c"]) -> np.ndarray:
    """Counts how often each channel has each value: int64 [c, 256]."""
    counts = np.zeros((images.shape[-1], 256), np.int64)
    for start in range(0, len(images), 1000):
        batch = images[start : start + 1000]
        for channel, count in enumerate(counts):
            count += np.bincount(batch[..., channel].ravel(), minlength=256)
    return counts


def _moments(histogram: np.ndarray) -> Normalization:
    values = np.arange(256) / 255
    weights = histogram / histogram.sum(1, keepdims=True)
    mean = weights @ values
    std = np.sqrt(np.sum(weights * (values - mean[:, None]) ** 2, axis=1))
    # A channel that never changes is divided by one grey level, not by zero.
    return tuple(mean.tolist()), tuple(np.maximum(std, 1 / 255).tolist())


def _cache_path(source: Source, cache_dir: str | None, content: str) -> Path:
    """Returns a path of its own for each folder of prepared data."""
    base = Path(cache_dir) if cache_dir else cache_folder()
    place = hashlib.sha256(str(source.folder).encode()).hexdigest()[:8]
    folder = f"{source.name.replace('/', '-')}-{source.version}-{place}"
    return base / folder / f"{content}.arrays"
