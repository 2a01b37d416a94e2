"""Crop, flip and rotation against Pillow, and against their distributions."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from augment_fixtures import (
    DRAWS,
    LEAST_P,
    assert_equally_likely,
    assert_uniform,
    over_keys,
    pictures,
)
from PIL import Image
from scipy import stats

from jax_resnet.augment import geometry


def over_image(image, transform, **settings):
    """The image under draws of a transform."""

    def apply(key):
        coordinates = geometry.identity(*image.shape[:2])
        coordinates = transform(key, coordinates, **settings)
        return geometry.sample(jnp.asarray(image), coordinates)

    return over_keys(apply)


@pytest.mark.parametrize("shape", [(32, 32), (20, 37)])
def test_rotation_is_pillows(shape):
    angles = np.random.default_rng(0).uniform(-180, 180, 300)
    special = [0, 1e-8, -1e-20, 0.5, 7.5, -15, 15, 30, -30, 45, 60, -60, 120, 180, -180]
    special += [90, -90] if shape[0] == shape[1] else []  # elsewhere Pillow transposes
    angles = np.float32([*special, *angles])
    images = pictures(len(angles), *shape)

    def rotate(image, angle):
        return geometry.sample(image, geometry.rotate(geometry.identity(*shape), angle))

    found = np.asarray(jax.jit(jax.vmap(rotate))(images, angles))
    for image, angle, ours in zip(np.asarray(images), angles, found, strict=True):
        expected = Image.fromarray(image).rotate(
            float(angle), Image.Resampling.NEAREST, fillcolor=(0, 0, 0)
        )
        np.testing.assert_array_equal(ours, expected, err_msg=str(angle))


@pytest.mark.slow
def test_rotation_angle_is_uniform():
    # The angle can be read from where two far points of an imagined image come to lie.
    column = jnp.int32([[0, 20_000]])
    valid = jnp.ones((1, 2), bool)
    points = geometry.Coordinates(jnp.zeros_like(column), column, valid)
    turned = over_keys(
        partial(geometry.random_rotation, coordinates=points, degrees=15.0)
    )
    down = turned.row[:, 0, 1] - turned.row[:, 0, 0]
    right = turned.column[:, 0, 1] - turned.column[:, 0, 0]
    assert_uniform(np.degrees(np.arctan2(down, right)), -15.01, 15.01)


@pytest.mark.slow
def test_crop_offsets_are_uniform():
    image = np.arange(1, 65, dtype=np.int32).reshape(8, 8, 1)
    padded = np.pad(image, ((4, 4), (4, 4), (0, 0)))
    offsets = {}
    for top, left in itertools.product(range(9), repeat=2):
        offsets[padded[top : top + 8, left : left + 8].tobytes()] = 9 * top + left
    found = over_image(image, geometry.random_crop, padding=4)
    assert_equally_likely([offsets[crop.tobytes()] for crop in found], range(81))


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_flip(probability):
    image = np.arange(6).reshape(2, 3, 1)
    found = over_image(image, geometry.random_flip, probability=probability)
    flipped = (found == image[None, :, ::-1]).all((1, 2, 3))
    assert (found[~flipped] == image[None]).all()
    assert stats.binomtest(int(flipped.sum()), DRAWS, probability).pvalue > LEAST_P
