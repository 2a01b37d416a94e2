"""Opens data sets by name, and caches their decoded images."""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from jax_resnet.data import cache, synthetic
from jax_resnet.data.source import Arrays, DatasetInfo, Source
from jax_resnet.runtime.errors import UserError
from jax_resnet.runtime.files import cache_folder


def open_source(name: str, data_dir: str | None) -> Source:
    """Opens a data set; prepares CIFAR-10 or CIFAR-100 first if it is missing.

    Takes and raises what :func:`jax_resnet.data.describe` does.
    """
    if name == synthetic.NAME:
        return synthetic.Synthetic()
    from jax_resnet.data import prepare, tfds_source

    folder = _data_folder(data_dir)
    source = tfds_source.open_prepared(name, folder)
    if source is None and name in prepare.NAMES:
        prepare.prepare(name, folder)
        source = tfds_source.open_prepared(name, folder)
    if source is None:
        raise UserError(
            f"{name} is not prepared in {folder}: where TensorFlow is installed, run "
            f"tfds build {name} --file_format=array_record --data_dir={folder}"
        )
    return source


def is_prepared(name: str, data_dir: str | None) -> bool:
    """Returns whether :func:`open_source` needs to download and prepare nothing."""
    if name == synthetic.NAME:
        return True
    from jax_resnet.data import tfds_source

    return tfds_source.open_prepared(name, _data_folder(data_dir)) is not None


def _data_folder(data_dir: str | None) -> Path:
    chosen = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    try:
        if "://" in chosen:
            raise OSError("it is not a local folder")
        folder = Path(chosen).expanduser().absolute()
        (folder / "downloads").exists()  # raises for a folder that cannot be read
        return folder
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"cannot look for data in {chosen!r} ({reason}): set config.data.dir or "
            "TFDS_DATA_DIR to a folder of your own"
        ) from error


def read(source: Source, split: str, cache_dir: str | None) -> Arrays:
    """Returns images and labels of a stored split, from the cache if it has them."""

    def decode() -> cache.Arrays:
        images, labels = source.decode(split)
        return {"images": images, "labels": labels}

    stored = _cached(source, split, cache_dir, decode)
    return stored["images"], stored["labels"]


def normalized_info(source: Source, cache_dir: str | None) -> DatasetInfo:
    """Returns the info of a source with its normalisation constants.

    Constants that are not given are computed from the whole stored split ``train`` (or
    else the first), so that they depend neither on ``train_split`` nor on the order of
    the images.
    """
    if source.info.mean:
        return source.info
    lengths = source.shard_lengths
    split = "train" if "train" in lengths else next(iter(lengths))

    def compute() -> cache.Arrays:
        mean, std = _mean_and_std(read(source, split, cache_dir)[0])
        return {"mean": mean, "std": std}

    stored = _cached(source, "mean-and-std", cache_dir, compute)
    mean, std = (tuple(stored[name].tolist()) for name in ("mean", "std"))
    return replace(source.info, mean=mean, std=std)


def _mean_and_std(images: UInt8[np.ndarray, "n h w c"]) -> tuple[np.ndarray, ...]:
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
    return mean, np.maximum(std, 1 / 255)


def _cached(
    source: Source,
    content: str,
    cache_dir: str | None,
    make: Callable[[], cache.Arrays],
) -> cache.Arrays:
    location = source.location
    if location is None:
        return make()
    base = Path(cache_dir) if cache_dir else cache_folder()
    # Folders of the same data set may hold different images.
    place = hashlib.sha256(str(location).encode()).hexdigest()[:8]
    folder = f"{source.info.name.replace('/', '-')}-{source.info.version}-{place}"
    files = sorted(path for path in location.rglob("*") if path.is_file())
    stats = [(str(path.relative_to(location)), path.stat()) for path in files]
    fingerprint = json.dumps([(n, s.st_size, s.st_mtime_ns) for n, s in stats])
    return cache.load_or_make(base / folder / f"{content}.npz", fingerprint, make)
