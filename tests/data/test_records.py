import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds
from data_fixtures import (
    class_features,
    examples,
    prepare_any,
    prepare_cifar,
    random_images,
    refused,
    same_records,
)

from jax_resnet import data
from jax_resnet.runtime.errors import UserError


def damage_shard(path, how):
    content = bytearray(path.read_bytes())
    if how == "flipped":
        # Every chunk of records is longer than this is apart.
        for position in range(
            70_000 if len(content) > 140_000 else 2000, len(content), 500_000
        ):
            content[position] ^= 16
    path.write_bytes(content[: len(content) // 2] if how == "truncated" else content)
    if how == "missing":
        path.unlink()


@pytest.mark.parametrize("how", ["flipped", "truncated", "missing"])
@pytest.mark.parametrize("cached", [False, True])
def test_damaged_shards_are_named(cifar100, tmp_path, how, cached):
    folder = tmp_path / "tfds"
    shutil.copytree(cifar100[0], folder)
    if cached:
        data.load("cifar100", data_dir=str(folder))
    (shard,) = (folder / "cifar100" / "3.0.2").glob("*train.array_record*")
    damage_shard(shard, how)
    with pytest.raises(
        UserError, match=f"{shard} is damaged.*delete {shard.parent}"
    ) as e:
        data.load("cifar100", data_dir=str(folder))
    assert "\n" not in str(e.value)


def test_a_flipped_bit_never_changes_an_image(tmp_path):
    images, labels = random_images(20, 10)
    splits = {"train": examples(images, labels)}
    prepare_any("tiny", tmp_path, splits, class_features((32, 32, 3)))
    (shard,) = (tmp_path / "tiny" / "1.2.3").glob("*array_record*")
    good = shard.read_bytes()
    used = len(good.rstrip(b"\0"))
    rng = np.random.default_rng(0)
    found = 0
    for position in rng.integers(0, used, 100):
        damaged = bytearray(good)
        damaged[position] ^= 1 << rng.integers(8)
        shard.write_bytes(damaged)
        try:
            _, split = data.load_split("tiny", "train", data_dir=str(tmp_path))
        except UserError as error:
            found += str(shard) in str(error)
        else:
            same_records(split, (images, labels))
    assert found > 30  # the rest is padding


def test_a_shard_of_another_preparation(cifar100, tmp_path):
    folder = tmp_path / "tfds"
    prepare_cifar("cifar100", folder, n_train=200)
    shutil.copytree(cifar100[0], tmp_path / "other")
    name = "cifar100/3.0.2/cifar100-train.array_record-00000-of-00001"
    shutil.copy(tmp_path / "other" / name, folder / name)
    refused("does not hold 200 records", data_dir=str(folder))


@pytest.mark.parametrize("file", ["dataset_info.json", "features.json"])
def test_damaged_metadata(cifar100, tmp_path, file):
    folder = tmp_path / "tfds"
    shutil.copytree(cifar100[0], folder)
    path = folder / "cifar100" / "3.0.2" / file
    text = path.read_text()
    message = f"metadata in {folder / 'cifar100'} is damaged.*delete"
    for damaged in (text[:100], text.replace("{SPLIT}", "[SPLIT}")):
        if damaged != text:
            path.write_text(damaged)
            refused(message, data_dir=str(folder))


@pytest.mark.parametrize("labels", ["label", "coarse_label"])
def test_labels_without_a_class(cifar100, tmp_path, labels):
    folder = tmp_path / "tfds"
    shutil.copytree(cifar100[0], folder)
    (folder / "cifar100" / "3.0.2" / f"{labels}.labels.txt").write_text("only one\n")
    with pytest.raises(UserError, match=r"damaged .a label that is not a class"):
        data.describe("cifar100", data_dir=str(folder))


@pytest.mark.parametrize("shape", [(28, 28, 1), (9, 7, 3), (5, 5, 4)])
@pytest.mark.parametrize("known", [True, False])
def test_other_sets(tmp_path, shape, known):
    """Grey or colour, any one shape, which TFDS may or may not know beforehand."""
    splits = {
        "train": random_images(60, 10, shape=shape),
        "test": random_images(20, 10, shape=shape, seed=1),
    }
    features = class_features(shape if known else (None, None, shape[-1]))
    stored = {split: examples(*arrays) for split, arrays in splits.items()}
    prepare_any("other", tmp_path, stored, features, shards=3)
    settings = {"data_dir": str(tmp_path)}
    described = data.describe("other", **settings)
    assert described.info is None  # its mean and deviation are still unknown
    dataset = data.load("other", **settings, train_split="train[:50%]")
    info, test = data.load_split("other", "test", **settings)
    same_records(test, splits["test"])
    assert (info.image_shape, info.num_classes) == (shape, 10)
    assert info == dataset.info == data.describe("other", **settings).info
    assert (info.superclass_names, info.superclass_of) == ((), ())
    scaled = splits["train"][0] / 255  # of all training images, not of the half
    np.testing.assert_allclose(info.mean, scaled.mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(info.std, scaled.std((0, 1, 2)), rtol=1e-12)


def other_set(tmp_path, features, values, **options):
    prepare_any(
        "other", tmp_path, {"train": values, "test": values}, features, **options
    )
    return str(tmp_path)


def test_images_of_different_shapes(tmp_path):
    images = [np.zeros((8 + k % 2, 8, 3), np.uint8) for k in range(10)]
    folder = other_set(
        tmp_path, class_features((None, None, 3)), examples(images, range(10))
    )
    with pytest.raises(UserError, match="all its images must have one shape"):
        data.load("other", data_dir=folder)


def test_sets_of_another_kind(tmp_path):
    images, labels = random_images(10, 10)
    no_label = {"image": tfds.features.Image(shape=(32, 32, 3))}
    folder = other_set(tmp_path / "a", no_label, [{"image": image} for image in images])
    refused("no classification set", "other", data_dir=folder)
    one_class = class_features((32, 32, 3), 1)
    folder = other_set(tmp_path / "b", one_class, examples(images, labels * 0))
    refused("has 1 classes", "other", data_dir=folder)
    deep = {
        **class_features((32, 32, 1)),
        "image": tfds.features.Image(shape=(32, 32, 1), dtype=np.uint16),
    }
    folder = other_set(tmp_path / "c", deep, examples(images[..., :1], labels))
    refused("only 8-bit", "other", data_dir=folder)


def test_images_without_labels(tmp_path):
    images, _ = random_images(10, 10)
    folder = other_set(
        tmp_path, class_features((32, 32, 3)), examples(images, [-1] * 10)
    )
    with pytest.raises(UserError, match="has no labels"):
        data.load("other", data_dir=folder)


def test_another_file_format(cifar100, tmp_path):
    folder = tmp_path / "tfds"
    shutil.copytree(cifar100[0], folder)
    path = folder / "cifar100" / "3.0.2" / "dataset_info.json"
    path.write_text(path.read_text().replace("array_record", "tfrecord"))
    refused("is stored as tfrecord.*--file_format=array_record", data_dir=str(folder))
