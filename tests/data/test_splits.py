import numpy as np
import pytest

from jax_resnet.data import splits
from jax_resnet.data.arrays_source import ArraysSource
from jax_resnet.data.synthetic import INFO
from jax_resnet.runtime.errors import UserError

LENGTHS = {"train": (60, 40), "test": (30,), "extra": (7,)}
SOURCE = ArraysSource(INFO, LENGTHS, None, {})


@pytest.mark.parametrize(
    ("expression", "slices"),
    [
        ("train[:80%]", [("train", 0, 80)]),
        ("train[-10:]", [("train", 90, 100)]),
        ("train[:1shard]", [("train", 0, 60)]),
        ("train[99:]+test[:3]", [("train", 99, 100), ("test", 0, 3)]),
        ("all", [("train", 0, 100), ("test", 0, 30), ("extra", 0, 7)]),
    ],
)
def test_expressions(expression, slices):
    resolved = splits.resolve(expression, SOURCE)
    assert [(name, part.start, part.stop) for name, part in resolved] == slices
    size = sum(stop - start for _, start, stop in slices)
    assert splits.size(expression, SOURCE) == size


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        (
            "tset",
            "^synthetic has no split 'tset', only train and test and extra; did you "
            "mean 'test'",
        ),
        ("train[:9] + trian[9:]", "no split 'trian', .*did you mean 'train'"),
        ("holdot", "did you mean 'holdout'"),
        ("holdout[:9]", "no split 'holdout', only train and test and extra$"),
        ("train[:9", "cannot be read: Unrecognized split format"),
        ("train[5]", "cannot be read"),
        ("train[10:5]", "selects no image"),
    ],
)
def test_wrong_expressions(expression, message):
    with pytest.raises(UserError, match=message) as caught:
        splits.resolve(expression, SOURCE)
    assert "\n" not in str(caught.value)


def test_overlap():
    assert splits.overlap("train", "test+train[99:]", SOURCE)
    assert not splits.overlap("train[:50]", "train[50:]+test", SOURCE)


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (200, 4, 4, 3), dtype=np.uint8)


LABELS = np.arange(200, dtype=np.int32) % 10


def held_out(images, labels, count):
    mask = splits.holdout_mask(images, labels, count)
    assert mask.sum() == count
    return sorted(map(bytes, images[mask]))


@pytest.mark.parametrize("count", [0, 7, 50, 199])
def test_holdout_is_stratified_and_does_not_depend_on_the_order(images, count):
    images[100:110] = images[:10]  # equal images of one class are interchangeable
    held = np.bincount(LABELS[splits.holdout_mask(images, LABELS, count)], minlength=10)
    assert held.max() - held.min() <= 1
    order = np.random.default_rng(1).permutation(200)
    expected = held_out(images, LABELS, count)
    assert held_out(images[order], LABELS[order], count) == expected


def test_the_holdout_of_kept_runs_stays(images):
    mask = splits.holdout_mask(images, LABELS, 8)
    assert np.flatnonzero(mask).tolist() == [21, 22, 33, 54, 96, 115, 157, 190]


def test_holdout_follows_the_sizes_of_the_classes(images):
    labels = np.repeat(np.int32([0, 1, 3]), [150, 40, 10])  # class 2 is empty
    mask = splits.holdout_mask(images, labels, 50)
    # Shares 37.5, 10 and 2.5: of equal remainders the lower class is rounded up.
    np.testing.assert_array_equal(np.bincount(labels[mask]), [38, 10, 0, 2])
