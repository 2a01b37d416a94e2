"""Caches decoded images and normalisation constants in ``.npz`` files.

A cache that cannot be read or written costs time and fails no run. Any file of it may
be deleted.
"""

import hashlib
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from jax_resnet.data.source import DatasetInfo, Source, Split
from jax_resnet.runtime.errors import UserError
from jax_resnet.runtime.files import new_file
from jax_resnet.runtime.paths import cache_folder, user_path

Arrays = Mapping[str, np.ndarray]

_log = logging.getLogger(__name__)


def read(source: Source, split: str, cache_dir: str | None) -> Split:
    """Returns a stored split, from the cache if it is there."""

    def decode() -> Arrays:
        fields = vars(source.decode(split))
        return {name: array for name, array in fields.items() if array is not None}

    return Split(**_cached(source, split, cache_dir, decode))


def normalized_info(source: Source, cache_dir: str | None) -> DatasetInfo:
    """Returns the info of a source with its normalisation constants.

    Constants that are not given are computed from the whole stored split ``train`` (or
    else the first), whatever ``train_split`` is.
    """
    if source.info.mean:
        return source.info
    lengths = source.shard_lengths
    split = "train" if "train" in lengths else next(iter(lengths))

    def compute() -> Arrays:
        return _mean_and_std(read(source, split, cache_dir).images)

    stored = _cached(source, "mean-and-std", cache_dir, compute)
    mean, std = (tuple(stored[name].tolist()) for name in ("mean", "std"))
    return replace(source.info, mean=mean, std=std)


def _mean_and_std(images: UInt8[np.ndarray, "n h w c"]) -> Arrays:
    """Computes both from histograms: exactly, without a floating-point copy."""
    histogram = np.zeros((images.shape[-1], 256), np.int64)
    for start in range(0, len(images), 1000):
        batch = images[start : start + 1000]
        for channel, counts in enumerate(histogram):
            counts += np.bincount(batch[..., channel].ravel(), minlength=256)
    values = np.arange(256) / 255
    weights = histogram / histogram.sum(1, keepdims=True)
    mean = weights @ values
    std = np.sqrt(np.sum(weights * (values - mean[:, None]) ** 2, axis=1))
    # A constant channel is divided by one grey level, not by zero.
    return {"mean": mean, "std": np.maximum(std, 1 / 255)}


def _cached(
    source: Source, content: str, cache_dir: str | None, make: Callable[[], Arrays]
) -> Arrays:
    location = source.location
    if location is None:
        return make()
    try:
        base = user_path(cache_dir) if cache_dir else cache_folder()
    except UserError as error:
        _log.info("no cache of decoded images: %s", error)
        return make()
    # Folders of the same data set may hold different images.
    place = hashlib.sha256(os.fsencode(location)).hexdigest()[:8]
    folder = f"{source.info.name.replace('/', '-')}-{source.info.version}-{place}"
    return load_or_make(base / folder / f"{content}.npz", source.fingerprint, make)


def load_or_make(path: Path, fingerprint: str, make: Callable[[], Arrays]) -> Arrays:
    """Returns the arrays stored in a file; makes and stores them if they are not.

    The fingerprint identifies what the arrays were made from: a file with another one
    is made again. Several processes may do so at once.
    """
    arrays = _load(path, fingerprint)
    if arrays is None:
        arrays = make()
        _save(path, fingerprint, arrays)
    return arrays


def _load(path: Path, fingerprint: str) -> Arrays | None:
    try:
        with np.load(path) as stored:
            # Checksums come first, because NumPy would follow a damaged header.
            if stored.zip.testzip() is None:
                arrays = dict(stored)
                if arrays.pop("fingerprint") == fingerprint:
                    return arrays
    except (FileNotFoundError, NotADirectoryError):
        return None
    except Exception:  # zipfile and NumPy raise nearly anything for a damaged file
        pass
    _log.warning("%s is damaged, or its source has changed: making it again", path)
    return None


def _save(path: Path, fingerprint: str, arrays: Arrays) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with new_file(path, shared=True) as file:
            contents: dict[str, Any] = {"fingerprint": fingerprint, **arrays}
            np.savez(file, **contents)
    except OSError as error:
        _log.info("no cache in %s: %s", path.parent, error)
