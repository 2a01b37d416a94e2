"""Damaged data is refused, and a damaged cache is made again."""

import shutil

import numpy as np
import pytest
from damages import DAMAGES, files_in
from data.data_fixtures import prepare_cifar

from jax_resnet import data
from jax_resnet.runtime.errors import UserError


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder with a small cifar10 and its cache, and what is in them."""
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
    for split in ("train", "evaluation"):
        for array in ("images", "labels"):
            np.testing.assert_array_equal(
                getattr(getattr(found, split), array),
                getattr(getattr(expected, split), array),
            )
    assert (found.info.mean, found.info.std) == (expected.info.mean, expected.info.std)


@pytest.mark.parametrize("kind", DAMAGES)
@pytest.mark.fault("a file of the data {kind}", 5, 100)
def test_damaged_data(folder, prepared, generator, kind):
    shutil.rmtree(folder / "cache")
    DAMAGES[kind](generator.choice(files_in(folder / "tfds" / "cifar10")), generator)
    try:
        # The names of the classes are all that TFDS stores without any check.
        assert_same_data(load(folder), prepared[1])
    except UserError as error:
        assert len(str(error).splitlines()) == 1
        assert str(folder / "tfds" / "cifar10") in str(error)


def put_folder(path, _):
    path.unlink()
    path.mkdir()


CACHE_DAMAGES = {
    **DAMAGES,
    "replaced by garbage": lambda path, random: path.write_bytes(random.randbytes(999)),
    "replaced by a folder": put_folder,
}


@pytest.mark.parametrize("kind", CACHE_DAMAGES)
@pytest.mark.fault("a cache of the data {kind}", 1, 30)
def test_damaged_caches(folder, prepared, generator, kind):
    path = generator.choice(sorted((folder / "cache").rglob("*.npz")))
    CACHE_DAMAGES[kind](path, generator)
    assert_same_data(load(folder), prepared[1])
