"""Damaged data and caches: named or made again, and never learned from."""

import random
import shutil
from itertools import product

import numpy as np
import pytest
from command_line import assert_one_line, run, without_times
from damages import DAMAGES, files_of, flip
from data.data_fixtures import prepare_cifar

from jax_resnet import data
from jax_resnet.runtime.errors import UserError


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder with a tiny cifar10, and what is in it."""
    folder = tmp_path_factory.mktemp("data")
    prepare_cifar("cifar10", folder / "tfds", n_train=256)
    return folder / "tfds", load(folder / "tfds", folder / "cache")


@pytest.fixture
def copy(prepared, tmp_path):
    return shutil.copytree(prepared[0], tmp_path / "tfds")


def load(data_dir, cache_dir):
    return data.load("cifar10", data_dir=str(data_dir), cache_dir=str(cache_dir))


def assert_same_data(found, expected):
    for split in ("train", "evaluation"):
        for array in ("images", "labels"):
            np.testing.assert_array_equal(
                getattr(getattr(found, split), array),
                getattr(getattr(expected, split), array),
            )
    assert found.info.mean == expected.info.mean
    assert found.info.num_classes == expected.info.num_classes


def test_damaged_data(copy, prepared, tmp_path, many, tally):
    # The names of classes are all that TFDS stores without any check.
    faults = tally("a file of the data damaged")
    generator = random.Random(3)
    damages = [*DAMAGES.values(), *[lambda path: flip(path, generator)] * 3]
    refused = 0
    for number in range(many(40, 400)):
        path = generator.choice(files_of(copy / "cifar10"))
        before = path.read_bytes()
        damages[number % len(damages)](path)
        faults.injected()
        try:
            found = load(copy, tmp_path / "cache")
        except UserError as error:
            refused += 1
            assert len(str(error).splitlines()) == 1
            assert str(copy / "cifar10") in str(error)
        else:
            assert_same_data(found, prepared[1])
        faults.survived()
        path.write_bytes(before)
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)
    assert refused > many(40, 400) / 3


def in_place_of_it(make):
    def damage(path):
        path.unlink()
        make(path)

    return damage


CACHE_DAMAGES = {
    **DAMAGES,
    "garbage": lambda path: path.write_bytes(random.Random(0).randbytes(5000)),
    "a folder": in_place_of_it(lambda path: path.mkdir()),
    "a link to itself": in_place_of_it(lambda path: path.symlink_to(path)),
}


def test_damaged_caches(prepared, tmp_path, many, tally):
    faults = tally("a cache of the data damaged")
    generator = random.Random(4)
    cache = shutil.copytree(prepared[0].parent / "cache", tmp_path / "cache")
    files = sorted(cache.rglob("*.npz"))
    flips = [lambda path: flip(path, generator)] * many(5, 100)
    for path, damage in product(files, (*CACHE_DAMAGES.values(), *flips)):
        before = path.read_bytes()
        damage(path)
        faults.injected()
        assert_same_data(load(prepared[0], cache), prepared[1])
        if path.is_dir():
            path.rmdir()
            load(prepared[0], cache)
        assert path.read_bytes() == before
        faults.survived()


@pytest.mark.many
def test_training_on_damaged_data(tiny, prepared, copy, tmp_path, many, tally):
    data_faults = tally("damaged data met by the real command")
    cache_faults = tally("a damaged cache met by the real command")

    def train(name, data_dir, cache):
        return run(
            tiny,
            tmp_path / name,
            *("--config.data.name=cifar10", f"--config.data.dir={data_dir}"),
            *(f"--config.data.cache_dir={cache}", "--config.train.epochs=1"),
        )

    cache = tmp_path / "cache"
    assert train("reference", copy, cache).returncode == 0
    expected = without_times(tmp_path / "reference")
    files = sorted(cache.rglob("*.npz"))
    cases = [*product(files, CACHE_DAMAGES.values())]
    for number, (path, damage) in enumerate(cases[:: many(11, 3)]):
        damage(path)
        cache_faults.injected()
        result = train(f"run{number}", copy, cache)
        assert result.returncode == 0, result.stderr
        assert without_times(tmp_path / f"run{number}") == expected
        cache_faults.survived()
        shutil.rmtree(cache)
        assert prepared[1].info == load(copy, cache).info
    files = sorted(copy.rglob("*.array_record*"))
    for number, (path, kind) in enumerate([*product(files, DAMAGES)][:: many(5, 1)]):
        before = path.read_bytes()
        DAMAGES[kind](path)
        data_faults.injected()
        result = train(f"damaged{number}", copy, tmp_path / f"cache{number}")
        assert_one_line(result, f"{path.name} is damaged .*: delete .* and prepare")
        data_faults.survived()
        path.write_bytes(before)
