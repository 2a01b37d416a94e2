"""What the preview shows is what training does to the images."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from step_fixtures import PLAIN, make_loss

from jax_resnet.augment import compose
from jax_resnet.augment.mixup import make_mix
from jax_resnet.data import Split
from jax_resnet.data.synthetic import INFO
from jax_resnet.training.preview import choose, preview

RNG = np.random.default_rng(0)
# Sorted by class, as in a folder; the last class has half of the images.
TRAIN = Split(
    RNG.integers(0, 256, (64, 12, 12, 3), np.uint8),
    np.repeat(np.int32([0, 3, 9]), [16, 16, 32]),
)
CUTOUT = {"cutout": {"size": 4}}


def views(*transforms, size=None, **changes):
    settings = {name: CUTOUT[name] for name in transforms if name in CUTOUT}
    augment = compose.build(transforms, settings, mean=INFO.mean, std=INFO.std)
    loss = make_loss(replace(PLAIN, augment=augment, **changes)).at_size(size)
    return preview(loss, choose(TRAIN), INFO, jax.random.key(5))


def test_without_augmentations_the_network_sees_what_is_stored():
    rows = views("normalize")
    names = [INFO.class_names[label] for label in (0, 0, 3, 3, 9, 9, 9, 9)]
    assert [row.label for row in rows] == names
    for row in rows:
        (place,) = np.flatnonzero((TRAIN.images == row.stored).all((1, 2, 3)))
        assert INFO.class_names[TRAIN.labels[place]] == row.label
        for image in row.seen:
            np.testing.assert_array_equal(image, row.stored)


def test_cutout_shows_squares_of_the_mean():
    places = set()
    for row in views("normalize", "cutout"):
        for image in row.seen:
            changed = (image != row.stored).any(-1)
            assert (np.abs(image[changed].astype(int) - 127.5) < 1).all()
            down, right = np.nonzero(changed)
            assert np.ptp(down) < 4 and np.ptp(right) < 4
            assert changed.sum() == (np.ptp(down) + 1) * (np.ptp(right) + 1)
            places.add((down[0], right[0]))
    assert len(places) > 20  # another one in each epoch and image


def test_the_flip_alternates_between_epochs():
    for row in views("alternating_flip", "normalize"):
        mirrored = [(image == row.stored[:, ::-1]).all() for image in row.seen]
        assert sum(mirrored) == 4
        assert mirrored[::2] == [mirrored[0]] * 4


@pytest.mark.slow
def test_mixed_images_and_their_shares():
    rows = views("normalize", mix=make_mix(mixup=1.0))
    for i, row in enumerate(rows):
        partner = rows[i ^ 1].stored.astype(np.float32)
        for image, share in zip(row.seen, row.shares, strict=True):
            expected = share * row.stored + (1 - share) * partner
            np.testing.assert_allclose(image, expected, atol=0.51)
    assert len({share for row in rows for share in row.shares}) > 20


def test_images_have_the_size_that_the_network_sees():
    (row, *_) = views("normalize", size=8)
    assert row.stored.shape == (12, 12, 3)
    assert [image.shape for image in row.seen] == [(8, 8, 3)] * 8
