import numpy as np
import pytest
from data_fixtures import class_features, examples, prepare_any, refused

from jax_resnet import data


def test_where_the_data_is(cifar100, monkeypatch, tmp_path):
    folder, _ = cifar100
    monkeypatch.setenv("TFDS_DATA_DIR", str(folder))
    assert data.describe("cifar100", data_dir=None).n_train == 300
    home = tmp_path / "home"
    home.mkdir()
    (home / "tensorflow_datasets").symlink_to(folder)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("TFDS_DATA_DIR")
    assert data.describe("cifar100", data_dir=None).n_train == 300
    assert (
        data.describe("cifar100:3.0.2", data_dir="~/tensorflow_datasets").n_eval == 100
    )


def test_unknown_and_unprepared_names(tmp_path):
    refused(
        "unknown data set 'cifar1000'.*'cifar100'", "cifar1000", data_dir=str(tmp_path)
    )
    refused("unknown data set 'a b'", "a b", data_dir=str(tmp_path))
    refused("unknown data set ''", "", data_dir=str(tmp_path))
    refused("'synthetic'", "synthetc", data_dir=str(tmp_path))
    refused("unknown.*'synthetic'", "synthetic:1.0.0", data_dir=str(tmp_path))
    refused(
        f"mnist is not prepared in {tmp_path}.*tfds build mnist",
        "mnist",
        data_dir=str(tmp_path),
    )


@pytest.mark.parametrize("folder", ["gs://bucket/tfds", "~nobody-here", "x" * 300])
def test_folders_where_no_data_can_be(folder):
    refused("cannot look for data in .*: set config.data.dir", data_dir=folder)


def test_configurations_are_part_of_the_name(cifar100):
    refused("not prepared", "emnist/letters", data_dir=str(cifar100[0]))


def test_a_constant_channel_can_be_divided_by_its_deviation(tmp_path):
    images = np.full((20, 8, 8, 1), 7, np.uint8)
    stored = {"train": examples(images, np.arange(20) % 10)}
    prepare_any("flat", tmp_path, stored, class_features((8, 8, 1)))
    info, _ = data.load_split("flat", "train", data_dir=str(tmp_path))
    assert info.std == (1 / 255,)
