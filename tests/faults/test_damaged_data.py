"""Damaged data is refused, and a damaged cache is made again."""

import shutil

import numpy as np
import pytest
from damages import damage, files_in
from data.data_fixtures import prepare_cifar

from jax_resnet import data
from jax_resnet.runtime.errors import UserError


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder with a small cifar10 and its cache, and the data in them."""
    folder = tmp_path_factory.mktemp("data")
    prepare_cifar("cifar10", folder / "tfds", n_train=256)
    return folder, load(folder)


@pytest.fixture
def folder(prepared, tmp_path):
    return shutil.copytree(prepared[0], tmp_path / "copy")


def load(folder):
    places = {"data_dir": str(folder / "tfds"), "cache_dir": str(folder / "cache")}
    return data.load("cifar10", **places)


def assert_same_data(found, expected):
    pairs = [(found.train, expected.train), (found.evaluation, expected.evaluation)]
    for one, other in pairs:
        np.testing.assert_array_equal(one.images, other.images)
        np.testing.assert_array_equal(one.labels, other.labels)
    assert (found.info.mean, found.info.std) == (expected.info.mean, expected.info.std)


@pytest.mark.fault("a damaged file of the data", 5, 100)
def test_damaged_data(folder, prepared, number, generator):
    shutil.rmtree(folder / "cache")
    damage(generator.choice(files_in(folder / "tfds" / "cifar10")), number, generator)
    try:
        # The names of the classes are all that TFDS stores without any check.
        assert_same_data(load(folder), prepared[1])
    except UserError as error:
        assert len(str(error).splitlines()) == 1
        assert str(folder / "tfds" / "cifar10") in str(error)


@pytest.mark.fault("a damaged cache of the data", 5, 50)
def test_damaged_caches(folder, prepared, number, generator):
    damage(generator.choice(files_in(folder / "cache")), number, generator)
    assert_same_data(load(folder), prepared[1])
