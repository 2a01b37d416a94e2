import numpy as np
import pytest

from jax_resnet.data import splits
from jax_resnet.runtime.errors import UserError

SHARDS = {"train": (60, 40), "test": (30,), "extra": (7,)}


@pytest.mark.parametrize(
    ("expression", "pieces"),
    [
        ("train", [("train", 0, 100)]),
        ("train[:80%]", [("train", 0, 80)]),
        ("train[-10:]", [("train", 90, 100)]),
        ("train[25:50]", [("train", 25, 50)]),
        ("train[:1shard]", [("train", 0, 60)]),
        ("train[99:]+test[:3]", [("train", 99, 100), ("test", 0, 3)]),
        ("test + train[:5]", [("test", 0, 30), ("train", 0, 5)]),
        ("all", [("train", 0, 100), ("test", 0, 30), ("extra", 0, 7)]),
        ("train[:0]+test", [("test", 0, 30)]),
        ("extra[50%:]", [("extra", 4, 7)]),
    ],
)
def test_expressions(expression, pieces):
    resolved = splits.resolve(expression, SHARDS)
    assert resolved == pieces
    assert splits.size(resolved) == sum(stop - start for _, start, stop in pieces)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("trian", "no split 'trian'.*train, test, extra; did you mean 'train'"),
        ("train+tset[:5]", "no split 'tset'.*did you mean 'test'"),
        ("", "cannot be read"),
        ("train[", "cannot be read"),
        ("train[::2]", "cannot be read"),
        ("train[a:b]", "cannot be read"),
        ("train[5]", "cannot be read"),
        ("train[:200%]", "cannot be read"),
        ("train[200:]", "cannot be read.*100"),
        ("train+", "cannot be read"),
        ("all[:5]", "cannot be read"),
        ("train[5:5]", "selects no image"),
        ("train[10:5]", "selects no image"),
        ("test[:0%]", "selects no image"),
    ],
)
def test_wrong_expressions_say_what_is_wrong_in_one_line(expression, message):
    with pytest.raises(UserError, match=message) as caught:
        splits.resolve(expression, SHARDS)
    assert "\n" not in str(caught.value)


def test_overlap():
    assert splits.overlap("train", "test+train[99:]", SHARDS)
    assert not splits.overlap("train[:50]", "train[50:]+test", SHARDS)


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (200, 4, 4, 3), dtype=np.uint8)


def chosen(images, labels, count):
    mask = splits.holdout_mask(images, labels, count)
    assert mask.sum() == count
    return sorted(image.tobytes() for image in images[mask])


@pytest.mark.parametrize("count", [1, 7, 10, 50, 53, 199])
def test_holdout_does_not_depend_on_the_order(images, count):
    labels = np.arange(200, dtype=np.int32) % 10
    order = np.random.default_rng(1).permutation(200)
    assert chosen(images, labels, count) == chosen(images[order], labels[order], count)


@pytest.mark.parametrize("count", [1, 7, 10, 50, 53, 199])
def test_holdout_is_stratified(images, count):
    labels = np.arange(200, dtype=np.int32) % 10
    held = np.bincount(labels[splits.holdout_mask(images, labels, count)], minlength=10)
    assert held.max() - held.min() <= 1


def test_holdout_follows_the_sizes_of_the_classes(images):
    labels = np.repeat(np.int32([0, 1, 3]), [150, 40, 10])  # class 2 is empty
    mask = splits.holdout_mask(images, labels, 50)
    # Shares 37.5, 10 and 2.5: of equal remainders the lower class is rounded up.
    np.testing.assert_array_equal(np.bincount(labels[mask]), [38, 10, 0, 2])


def test_larger_holdouts_contain_smaller_ones(images):
    labels = np.arange(200, dtype=np.int32) % 10
    small, large = (splits.holdout_mask(images, labels, count) for count in (20, 70))
    assert not (small & ~large).any()


def test_equal_images_are_interchangeable(images):
    images[100:] = images[:100]
    labels = np.arange(200, dtype=np.int32) % 10
    order = np.random.default_rng(1).permutation(200)
    assert chosen(images, labels, 55) == chosen(images[order], labels[order], 55)


def test_nothing_held_out(images):
    assert chosen(images, np.zeros(200, np.int32), 0) == []
