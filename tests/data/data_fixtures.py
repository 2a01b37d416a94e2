"""Small prepared data sets for tests."""

import io
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from jax_resnet import data
from jax_resnet.data.prepare import write_records
from jax_resnet.runtime.errors import UserError

Arrays = tuple[np.ndarray, np.ndarray]  # images, labels


def random_images(n: int, classes: int, *, seed: int = 0, shape=(32, 32, 3)) -> Arrays:
    """Noise, and labels that go through the classes in turn."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (n, *shape), dtype=np.uint8)
    return images, np.arange(n, dtype=np.int32) % classes


def prepare_cifar(
    name: str, data_dir: Path, *, n_train: int = 300, n_test: int = 100, seed: int = 0
) -> dict[str, Arrays]:
    """Prepares a tiny cifar10 or cifar100; returns its images in another order.

    Label k is called "label k"; its superclass is "coarse_label k // 5".
    """
    builder = tfds.builder_cls(name)(data_dir=str(data_dir))
    features, layout = builder.info.features, builder._cifar_info
    classes = features["label"].num_classes
    splits = {
        "train": random_images(n_train, classes, seed=seed),
        "test": random_images(n_test, classes, seed=seed + 1),
    }
    files = {}
    for key, file in zip(layout.label_keys, layout.label_files, strict=True):
        names = [f"{key} {k}" for k in range(features[key].num_classes)]
        files[file] = "\n".join(names).encode()
    for split, names in (("train", layout.train_files), ("test", layout.test_files)):
        images, labels = splits[split]
        planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
        kinds = [
            {"label": labels, "coarse_label": labels // 5}[k] for k in layout.label_keys
        ]
        rows = np.column_stack([*kinds, planes]).astype(np.uint8)
        for file, part in zip(names, np.array_split(rows, len(names)), strict=True):
            files[file] = part.tobytes()
    data_dir.mkdir(parents=True, exist_ok=True)
    archive = data_dir / "archive.tar.gz"
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        for file, content in files.items():
            entry = tarfile.TarInfo(layout.prefix + file)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    write_records(name, archive, data_dir)
    archive.unlink()
    return splits


def prepare_any(
    data_dir: Path,
    splits: Mapping[str, Arrays],
    features: Mapping[str, Any],
    *,
    shards: int = 1,
    encoding: str = "png",
    coarse_label: Callable[[str, int], Any] = lambda split, label: None,
) -> str:
    """Prepares a data set called "other"; returns its folder.

    ``coarse_label`` makes the feature of this name from split and label.
    """

    class Other(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.2.3")

        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples(split) for split in splits}

        def _generate_examples(self, split):
            for key, (image, label) in enumerate(zip(*splits[split], strict=True)):
                encoded = io.BytesIO()
                Image.fromarray(image.squeeze()).save(encoded, encoding)
                example = {"image": encoded.getvalue(), "label": int(label)}
                example["coarse_label"] = coarse_label(split, int(label))
                yield key, {name: example[name] for name in features}

    tfds.disable_progress_bar()
    config = tfds.download.DownloadConfig(try_download_gcs=False, num_shards=shards)
    Other(data_dir=str(data_dir), file_format="array_record").download_and_prepare(
        download_dir=str(data_dir / "downloads"), download_config=config
    )
    return str(data_dir)


def class_features(shape: tuple, classes: int = 10) -> dict[str, Any]:
    return {
        "image": tfds.features.Image(shape=shape),
        "label": tfds.features.ClassLabel(num_classes=classes),
    }


def same_records(found: data.Split, expected: Arrays):
    """Checks that a split holds the expected images, in any order."""
    assert sorted(
        zip(map(bytes, found.images), found.labels.tolist(), strict=True)
    ) == (sorted(zip(map(bytes, expected[0]), expected[1].tolist(), strict=True)))


def refused(match, name="cifar100", **settings):
    """Checks that loading a data set fails with one line."""
    with pytest.raises(UserError, match=match) as caught:
        data.load(name, **{"data_dir": None, **settings})
    assert "\n" not in str(caught.value)
