"""Maps of coordinates against Pillow, float64 and the transforms in turn."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from augment_fixtures import (
    CONSTANTS,
    SETTINGS,
    assert_uniform,
    one_after_the_other,
    over_keys,
    pictures,
)
from PIL import Image

from jax_resnet.augment import compose, geometry


def rotated(images, angles):
    shape = images.shape[1:3]

    def rotate(image, angle):
        return geometry.sample(image, geometry.rotate(geometry.identity(*shape), angle))

    return np.asarray(jax.jit(jax.vmap(rotate))(images, angles))


@pytest.mark.parametrize("shape", [(32, 32), (28, 28), (33, 33), (20, 37)])
@pytest.mark.parametrize("degrees", [15, 180])
def test_rotation_is_pillows(shape, degrees):
    count = 1000
    angles = np.random.default_rng(0).uniform(-degrees, degrees, count)
    special = [0, 1e-8, -1e-20, 0.5, 7.5, -15, 15, 30, -30, 45, 60, -60, 120]
    special += [90, -90, 180, -180] if shape[0] == shape[1] else [180, -180]
    angles = np.float32([*special, *angles])
    images = pictures(len(angles), *shape)
    found = rotated(images, angles)
    for image, angle, ours in zip(np.asarray(images), angles, found, strict=True):
        expected = Image.fromarray(image).rotate(
            float(angle), Image.Resampling.NEAREST, fillcolor=(0, 0, 0)
        )
        np.testing.assert_array_equal(ours, expected, err_msg=str(angle))


def test_rotations_fixed_point_integers_are_those_of_float64():
    angles = np.random.default_rng(0).uniform(-15, 15, 300_000).astype(np.float32)
    step = np.round(angles * 64)
    remainder = (angles - step / np.float32(64)) * np.float32(math.radians(1))
    whole, fraction = jax.vmap(geometry._fixed_point_sine)(
        jnp.int32(step), jnp.float32(remainder)
    )
    exact = 65536 * np.sin(np.radians(angles.astype(np.float64)))
    np.testing.assert_array_equal(whole, np.floor(exact + 0.5))
    found = np.asarray(whole) + np.asarray(fraction, np.float64)
    np.testing.assert_allclose(found, exact, rtol=0, atol=2e-6)


def test_rotation_angle_is_uniform():
    # Where two far points of an imagined image come to lie, the angle can be read.
    column = jnp.int32([[0, 20_000]])
    valid = jnp.ones((1, 2), bool)
    points = geometry.Coordinates(jnp.zeros_like(column), column, valid)
    turned = over_keys(lambda key: geometry.random_rotation(key, points, degrees=15.0))
    down = turned.row[:, 0, 1] - turned.row[:, 0, 0]
    right = turned.column[:, 0, 1] - turned.column[:, 0, 0]
    angles = np.degrees(np.arctan2(down, right))
    assert_uniform(angles, -15.01, 15.01)
    assert angles.min() < -14.9 and angles.max() > 14.9


@pytest.mark.parametrize(
    "names",
    [
        ("random_crop", "random_flip", "random_rotation"),
        ("random_rotation", "random_flip", "random_crop"),
        ("random_rotation", "random_rotation", "random_crop", "random_crop"),
    ],
)
def test_one_gather_is_the_transforms_one_after_the_other(names):
    recipe = (*names, "normalize")
    images = pictures(64, 28, 33)
    keys = jax.random.split(jax.random.key(0), len(images))
    apply = compose.build(recipe, SETTINGS, **CONSTANTS)
    chain = jax.vmap(partial(one_after_the_other, recipe=recipe))
    found, expected = (jax.jit(f)(keys, images) for f in (apply, chain))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    text = str(jax.make_jaxpr(apply)(keys, images))
    assert text.count("u8[64,28,33,3] = gather") == 1
