import itertools
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds
from data_fixtures import (
    class_features,
    prepare_any,
    random_images,
    refused,
    same_records,
)

from jax_resnet import data
from jax_resnet.data import tfds_source


@pytest.fixture
def copy(cifar100, tmp_path):
    """A copy of the tiny cifar100, and the folder of its files."""
    folder = shutil.copytree(cifar100[0], tmp_path / "tfds")
    return folder, folder / "cifar100" / "3.0.2"


@pytest.mark.parametrize("how", ["flipped", "truncated", "missing"])
def test_damaged_shards_are_named(copy, how):
    folder, files = copy
    (shard,) = files.glob("*train.array_record*")
    content = bytearray(shard.read_bytes())
    if how == "flipped":
        content[70_000] ^= 16
    shard.write_bytes(content[: len(content) // 2] if how == "truncated" else content)
    if how == "missing":
        shard.unlink()
    message = f"{shard} is damaged.*delete {files}"
    refused(message, data_dir=str(folder))


def test_damaged_metadata(copy):
    folder, files = copy
    for name, content, message in (
        ("label.labels.txt", "only one", "damaged"),
        ("features.json", "{", f"metadata in {folder / 'cifar100'} is damaged.*delete"),
        ("dataset_info.json", "{", "metadata in .* is damaged"),
    ):
        (files / name).write_text(content)
        refused(message, data_dir=str(folder))


def test_files_of_others_are_not_damaged(copy, monkeypatch):
    def refuse(path, mode):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tfds_source.Path, "open", refuse)
    refused(r"cannot read .*array_record.*: Permission denied$", data_dir=str(copy[0]))


def test_what_is_not_understood_need_not_be_deleted(copy, tmp_path, monkeypatch):
    folder, _ = copy
    monkeypatch.setattr(tfds_source.Image, "open", None)
    monkeypatch.setattr(tfds_source, "_NOT_UNDERSTOOD", (TypeError,))
    refused(
        "cannot be used, because .* is not understood (?!.*delete)",
        data_dir=str(folder),
    )
    arrays = random_images(10, 10, shape=(8, 8, 1))
    other = prepare_any(tmp_path, {"train": arrays}, class_features((8, 8, 1)))
    (tmp_path / "other" / "1.2.3" / "features.json").write_text("{")
    refused("metadata in .* cannot be read (?!.*delete)", "other", data_dir=other)


def test_another_file_format(copy):
    folder, files = copy
    info = files / "dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    refused("is stored as tfrecord.*--file_format=array_record", data_dir=str(folder))


@pytest.mark.parametrize(
    ("shape", "known", "encoding"),
    [((9, 7, 3), False, "bmp"), ((5, 5, 4), True, "png"), ((8, 8, 1), True, "png")],
)
def test_other_sets(tmp_path, shape, known, encoding):
    """Grey or colour, any one shape, which TFDS may or may not know beforehand."""
    splits = {"train": random_images(60, 10, shape=shape)}
    splits["test"] = random_images(20, 10, shape=shape, seed=1)
    if shape[-1] == 4:
        splits["train"][0][..., 3] = 255  # a constant channel
    features = class_features(shape if known else (None, None, shape[-1]))
    folder = prepare_any(tmp_path, splits, features, shards=3, encoding=encoding)
    info = data.load("other", data_dir=folder, train_split="train[:50%]").info
    assert (info.image_shape, info.num_classes) == (shape, 10)
    assert (info.superclass_names, info.superclass_of) == ((), ())
    scaled = splits["train"][0] / 255  # all training images, not the half
    np.testing.assert_allclose(info.mean, scaled.mean((0, 1, 2)), rtol=1e-12)
    std = np.maximum(scaled.std((0, 1, 2)), 1 / 255)
    np.testing.assert_allclose(info.std, std, rtol=1e-12)
    again, test = data.load_split("other", "test", data_dir=folder)
    same_records(test, splits["test"])
    assert again == info


SCALAR = tfds.features.Scalar
HALF = tfds.features.ClassLabel(names=["low", "high"])
IMAGE = itertools.count()


@pytest.mark.parametrize(
    ("feature", "make", "are_superclasses"),
    [
        (SCALAR(np.int64), lambda split, label: 1000 * label, False),
        (SCALAR(np.float32), lambda split, label: label / 7, False),
        (HALF, lambda split, label: label // 5, True),
        (HALF, lambda split, label: label // 5 if split == "test" else -1, True),
        (HALF, lambda split, label: -1, False),
        (HALF, lambda split, label: next(IMAGE) // 10 % 2, False),  # of each class both
    ],
)
def test_superclasses_are_labels_of_the_classes(
    tmp_path, feature, make, are_superclasses
):
    arrays = random_images(20, 10, shape=(8, 8, 1))
    features = {**class_features((8, 8, 1)), "coarse_label": feature}
    splits = {"train": arrays, "test": arrays}
    folder = prepare_any(tmp_path, splits, features, coarse_label=make)
    info = data.load("other", data_dir=folder).info
    assert info.superclass_of == ((0,) * 5 + (1,) * 5 if are_superclasses else ())
    assert info.superclass_names == (("low", "high") if are_superclasses else ())


def test_sets_that_cannot_be_used(tmp_path):
    images, labels = random_images(10, 10, shape=(8, 8, 1))
    sizes = [np.zeros((8 + k % 2, 8, 1), np.uint8) for k in range(10)]
    known = class_features((8, 8, 1))
    deep = tfds.features.Image(shape=(8, 8, 1), dtype=np.uint16)
    cases = {
        "no classification set": (images, labels, {"image": known["image"]}),
        "only 8-bit": (images, labels, {**known, "image": deep}),
        "images without labels": (images, labels * 0 - 1, known),
        "has 1 classes": (images, labels * 0, class_features((8, 8, 1), classes=1)),
        "must have one shape": (sizes, labels, class_features((None, None, 1))),
    }
    for message, (*arrays, features) in cases.items():
        folder = prepare_any(tmp_path / message, {"train": arrays}, features)
        refused(message, "other", data_dir=folder, eval_split="train")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cifar1000", "unknown data set 'cifar1000'.*'cifar100'"),
        ("synthetc", "'synthetic'"),
        ("mnist", "mnist is not prepared in .*tfds build mnist"),
    ],
)
def test_unknown_and_unprepared_names(tmp_path, name, message):
    refused(message, name, data_dir=str(tmp_path))
