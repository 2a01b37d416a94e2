"""Reads the user's own arrays from an ``.npz`` file."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jax_resnet.data import splits
from jax_resnet.data.checks import check_classes
from jax_resnet.data.image_file import MODES
from jax_resnet.data.source import DatasetInfo, Source, Split
from jax_resnet.runtime.errors import UserError

NAME = "arrays"


@dataclass(frozen=True)
class ArraysSource(Source):
    """Images in memory. They are not cached, because their file reads as fast."""

    splits: Mapping[str, Split]

    def decode(self, split: str) -> Split:
        """Returns the images of a split."""
        return self.splits[split]


def open_arrays(path: Path) -> ArraysSource:
    """Opens an ``.npz`` file.

    It has ``train_images``, uint8 ``[n, height, width, channels]`` or, grey, ``[n,
    height, width]``, and ``train_labels``, integers ``[n]`` from 0. It may have
    ``test_images`` and ``test_labels``; without them a fifth of the images is split
    off, as :func:`~jax_resnet.data.splits.split_off_test` says. It may have
    ``class_names``, strings; without them a class is named by its number.

    Raises UserError if the file is missing, damaged, or holds anything else.
    """
    arrays = _load(path)
    stored = {
        split: _read_split(path, arrays, split)
        for split in ("train", "test")
        if split == "train" or f"{split}_images" in arrays
    }
    names = _class_names(path, arrays, stored)
    labels = {name: split.labels for name, split in stored.items()}
    check_classes(path, names, labels, least=1 if "test" in stored else 2)
    if "test" not in stored:
        stored = splits.split_off_test(stored["train"])
    shapes = {split.images.shape[1:] for split in stored.values()}
    if len(shapes) > 1:
        raise UserError(f"{path} has training and test images of different shapes")
    height, width, channels = shapes.pop()
    stem = re.sub(r"[^\w.-]+", "-", path.stem)[:40]
    info = DatasetInfo(
        name=f"{NAME}/{stem}",
        version=f"{height}x{width}",
        image_shape=(height, width, channels),
        class_names=names,
        superclass_names=(),
        superclass_of=(),
        mean=(),
        std=(),
    )
    lengths = {name: (len(split.images),) for name, split in stored.items()}
    return ArraysSource(info, lengths, None, stored)


def _load(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            # Checksums come first, because NumPy would follow a damaged header.
            if (damaged := file.zip.testzip()) is not None:
                raise ValueError(f"{damaged} is damaged")
            return dict(file)
    except FileNotFoundError as error:
        raise UserError(
            f"no file {str(path)!r}: data.name={NAME} reads the .npz file that "
            "data.dir, or --data-dir of evaluate and export, names"
        ) from error
    except Exception as error:  # zipfile and NumPy raise nearly anything
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise UserError(
            f"data.dir must be an .npz file of arrays for data.name={NAME}, and "
            f"{str(path)!r} cannot be read as one ({reason})"
        ) from error


def _read_split(path: Path, arrays: Mapping[str, np.ndarray], split: str) -> Split:
    keys = f"{split}_images", f"{split}_labels"
    if missing := [key for key in keys if key not in arrays]:
        raise UserError(f"{path} has no {missing[0]!r}: it has {sorted(arrays)}")
    images, labels = (arrays[key] for key in keys)
    if images.ndim == 3:
        images = images[..., None]
    is_image = images.ndim == 4 and min(images.shape[1:]) > 0
    if images.dtype != np.uint8 or not is_image or images.shape[-1] not in MODES:
        raise UserError(
            f"{keys[0]} in {path} are {images.dtype} {list(arrays[keys[0]].shape)}: "
            "they must be uint8, from 0 to 255, [n, height, width, channels] with 1, "
            "3 or 4 channels"
        )
    if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu":
        raise UserError(
            f"{keys[1]} in {path} are {labels.dtype} {list(labels.shape)}: they must "
            f"be integers [{len(images)}], one for each of {keys[0]}"
        )
    low, high = (labels.min(), labels.max()) if len(labels) else (0, 0)
    # Training images without the first class could not be learned anyway.
    if not 0 <= low <= high < 2**31 or (split == "train" and low > 0):
        raise UserError(
            f"{keys[1]} in {path} go from {low} to {high}: they must be classes, "
            "counted from 0"
        )
    names = np.array([f"{keys[0]}[{index}]" for index in range(len(images))])
    return Split(images, labels.astype(np.int32), names)


def _class_names(
    path: Path, arrays: Mapping[str, np.ndarray], stored: Mapping[str, Split]
) -> tuple[str, ...]:
    every_label = np.concatenate([split.labels for split in stored.values()])
    count = int(every_label.max(initial=-1)) + 1
    given = arrays.get("class_names")
    if given is None:
        # Labels such as 2**30 must not fill memory with names.
        if count > len(every_label):
            raise UserError(f"{path} has the label {count - 1} and fewer images")
        return tuple(map(str, range(count)))
    is_text = given.ndim == 1 and given.dtype.kind == "U"
    # Half a character, which no file of a run could hold.
    is_text = is_text and not any(re.search("[\ud800-\udfff]", name) for name in given)
    if not is_text or len(given) < count:
        raise UserError(
            f"class_names in {path} are {given.dtype} {list(given.shape)}: they must "
            f"be strings, at least {count}, as the labels go up to {count - 1}"
        )
    return tuple(given.tolist())
