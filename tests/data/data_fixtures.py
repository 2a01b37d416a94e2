"""Small prepared data sets, made on the spot; importable by any test."""

import dataclasses
import hashlib
import io
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from jax_resnet import data
from jax_resnet.data.prepare import ARCHIVES, Archive, prepare
from jax_resnet.runtime.errors import UserError

Arrays = tuple[np.ndarray, np.ndarray]  # images, labels


def random_images(n: int, classes: int, *, seed: int = 0, shape=(32, 32, 3)) -> Arrays:
    """Noise, and labels that go through the classes in turn."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (n, *shape), dtype=np.uint8)
    return images, np.arange(n, dtype=np.int32) % classes


def place_archive(name: str, splits: Mapping[str, Arrays], folder: Path) -> Archive:
    """Writes an archive laid out like the official one, and returns its description.

    CIFAR-100's class k is called "fine k" and belongs to superclass "coarse k // 5".
    """
    archive = ARCHIVES[name]
    files = {}
    for split, (images, labels) in splits.items():
        planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
        kinds = {"coarse_label": labels // 5, "label": labels}
        columns = [kinds[label][:, None] for label in archive.label_files]
        records = np.concatenate([*columns, planes], axis=1).astype(np.uint8)
        paths = archive.split_files[split]
        for path, part in zip(paths, np.array_split(records, len(paths)), strict=True):
            files[path] = part.tobytes()
    for label, path in archive.label_files.items():
        count = {"coarse_label": 20, "label": 100 if name == "cifar100" else 10}[label]
        kind = "coarse" if label == "coarse_label" else "fine"
        files[path] = "".join(f"{kind} {k}\n" for k in range(count)).encode()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / archive.filename
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for member, content in files.items():
            entry = tarfile.TarInfo(member)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    packed = path.read_bytes()
    return dataclasses.replace(
        archive, sha256=hashlib.sha256(packed).hexdigest(), size=len(packed)
    )


def prepare_cifar(
    name: str, data_dir: Path, *, n_train: int = 300, n_test: int = 100, seed: int = 0
) -> dict[str, Arrays]:
    """Prepares a tiny cifar10 or cifar100 in ``data_dir``; returns what is in it.

    TFDS shuffles, so the records are stored in another order.
    """
    classes = 100 if name == "cifar100" else 10
    splits = {
        "train": random_images(n_train, classes, seed=seed),
        "test": random_images(n_test, classes, seed=seed + 1),
    }
    archive = place_archive(name, splits, data_dir / "downloads" / "manual")
    prepare(archive, data_dir)
    return splits


def prepare_any(
    name: str,
    data_dir: Path,
    splits: Mapping[str, Sequence[Mapping[str, Any]]],
    features: Mapping[str, Any],
    *,
    shards: int = 1,
    file_format: str = "array_record",
) -> None:
    """Prepares a set of given examples, whose images are encoded as PNG."""

    class Given(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.2.3")

        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples(split) for split in splits}

        def _generate_examples(self, split):
            for key, example in enumerate(splits[split]):
                yield key, {name: _encode(value) for name, value in example.items()}

    Given.name = name
    tfds.disable_progress_bar()
    Given(data_dir=str(data_dir), file_format=file_format).download_and_prepare(
        download_dir=str(data_dir / "downloads"),
        download_config=tfds.download.DownloadConfig(
            try_download_gcs=False, num_shards=shards
        ),
    )


def examples(images: Sequence[np.ndarray], labels: Sequence[int]) -> list[dict]:
    return [
        {"image": image, "label": int(label)}
        for image, label in zip(images, labels, strict=True)
    ]


def class_features(shape: tuple, classes: int = 10) -> dict[str, Any]:
    return {
        "image": tfds.features.Image(shape=shape),
        "label": tfds.features.ClassLabel(num_classes=classes),
    }


def sorted_by_pixels(images: np.ndarray, labels: np.ndarray) -> Arrays:
    """The same records in an order of their own."""
    order = sorted(range(len(images)), key=lambda i: images[i].tobytes())
    return images[order], labels[order]


def same_records(split, expected):
    for a, b in zip(
        sorted_by_pixels(split.images, split.labels),
        sorted_by_pixels(*expected),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)


def refused(match, name="cifar100", **settings):
    settings = {"data_dir": None, **settings}
    for function in (data.describe, data.load):
        with pytest.raises(UserError, match=match) as caught:
            function(name, **settings)
        assert "\n" not in str(caught.value)


def _encode(value: Any) -> Any:
    if not isinstance(value, np.ndarray):
        return value
    buffer = io.BytesIO()
    Image.fromarray(value.squeeze(-1) if value.shape[-1] == 1 else value).save(
        buffer, "png"
    )
    return buffer.getvalue()
