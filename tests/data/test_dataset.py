import hashlib
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from data_fixtures import prepare_cifar, refused, same_records

from jax_resnet import data
from jax_resnet.runtime.errors import UserError

GENUINE = os.environ.get("TFDS_DATA_DIR", "")


def test_cifar100(cifar100):
    folder, splits = cifar100
    dataset = data.load("cifar100", data_dir=folder)
    same_records(dataset.train, splits["train"])
    same_records(dataset.evaluation, splits["test"])
    assert dataset.eval_name == "test"
    assert dataset.info == data.DatasetInfo(
        name="cifar100",
        version="3.0.2",
        image_shape=(32, 32, 3),
        class_names=tuple(f"label {k}" for k in range(100)),
        superclass_names=tuple(f"coarse_label {k}" for k in range(20)),
        superclass_of=tuple(k // 5 for k in range(100)),
        mean=(0.5071, 0.4867, 0.4408),
        std=(0.2675, 0.2565, 0.2761),
    )


@pytest.mark.parametrize(
    ("settings", "sizes"),
    [
        ({"train_split": "train[:33%]", "eval_split": "test[7:]"}, (99, 93)),
        ({"train_split": "train[:150]", "holdout": 40}, (110, 40)),
    ],
)
def test_described_as_loaded(cifar100, settings, sizes):
    described = data.describe("cifar100", data_dir=cifar100[0], **settings)
    loaded = described.load()
    assert described.info == loaded.info
    assert (described.n_train, described.n_eval) == sizes
    assert (len(loaded.train.images), len(loaded.evaluation.images)) == sizes


def test_superclasses_are_left_out_where_a_class_has_no_image(tmp_path):
    prepare_cifar("cifar100", tmp_path, n_train=10, n_test=10)
    info = data.load("cifar100", data_dir=str(tmp_path)).info
    assert (info.superclass_names, info.superclass_of) == ((), ())


def test_slices_are_those_of_tfds(cifar100):
    expression = "test[90:]+train[25%:50%]+test[:3]"
    _, split = data.load_split("cifar100", expression, data_dir=cifar100[0])
    records = tfds.builder("cifar100", data_dir=cifar100[0]).as_data_source(expression)
    np.testing.assert_array_equal(split.images, [record["image"] for record in records])
    np.testing.assert_array_equal(split.labels, [record["label"] for record in records])


def test_holdout_leaves_training_and_can_be_loaded_again(cifar100):
    folder, splits = cifar100
    dataset = data.load("cifar100", data_dir=folder, holdout=100)
    assert dataset.eval_name == "holdout"
    train, held_out = dataset.train, dataset.evaluation
    images = np.concatenate([train.images, held_out.images])
    labels = np.concatenate([train.labels, held_out.labels])
    same_records(data.Split(images, labels), splits["train"])
    info, again = data.load_split("cifar100", "holdout", data_dir=folder, holdout=100)
    np.testing.assert_array_equal(again.images, dataset.evaluation.images)
    assert info == dataset.info


def test_wrong_holdouts(cifar100):
    refused("data.holdout is .*299", data_dir=cifar100[0], holdout=300)
    with pytest.raises(UserError, match="no images were held out"):
        data.load_split("cifar100", "holdout", data_dir=cifar100[0])


@pytest.mark.slow
def test_the_cache_is_used_and_follows_the_files(cifar100, tmp_path, caplog):
    folder = shutil.copytree(cifar100[0], tmp_path / "tfds")
    for place in (folder, cifar100[0], folder):  # each has files of its own
        same_records(
            data.load("cifar100", data_dir=str(place)).train, cifar100[1]["train"]
        )
    files = sorted((tmp_path / "cache").glob("*/*"))
    assert [file.stem for file in files] == ["test", "train"] * 2
    assert not caplog.records

    shutil.rmtree(folder)
    splits = prepare_cifar("cifar100", folder, seed=9)
    same_records(data.load("cifar100", data_dir=str(folder)).train, splits["train"])
    assert "source has changed" in caplog.text


def test_where_the_data_is(cifar100, monkeypatch, tmp_path):
    monkeypatch.setenv("TFDS_DATA_DIR", cifar100[0])
    assert data.describe("cifar100:3.0.2", data_dir=None).n_train == 300
    monkeypatch.delenv("TFDS_DATA_DIR")
    (tmp_path / "tensorflow_datasets").symlink_to(cifar100[0])
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data.describe("cifar100", data_dir=None).n_train == 300


@pytest.mark.parametrize("folder", ["gs://bucket/tfds", "~nobody-here"])
def test_folders_where_no_data_can_be(folder):
    refused("cannot look for data in .*: set config.data.dir", data_dir=folder)


@pytest.mark.slow
@pytest.mark.skipif(
    not Path(GENUINE, "cifar100", "3.0.2").is_dir(),
    reason="TFDS_DATA_DIR holds no CIFAR-100",
)
def test_the_images_and_the_holdout_of_kept_runs(tmp_path):
    dataset = data.load(
        "cifar100",
        data_dir=GENUINE,
        cache_dir=str(tmp_path),
        train_split="test",  # fewer to decode than "train"
        holdout=1000,
    )
    digests = [
        hashlib.sha256(split.images.tobytes() + split.labels.tobytes()).hexdigest()[:12]
        for split in (dataset.train, dataset.evaluation)
    ]
    assert digests == ["5b43bdfd3fa5", "c13384962192"]
    info = dataset.info
    superclass = info.superclass_of[info.class_names.index("maple_tree")]
    assert info.superclass_names[superclass] == "trees"
