"""Colour jitter against Pillow and NumPy; normalisation."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from augment_fixtures import (
    CONSTANTS,
    assert_equally_likely,
    assert_uniform,
    keys,
    over_keys,
    pictures,
)
from PIL import Image, ImageEnhance

from jax_resnet.augment.color import color_jitter, draw_jitter, normalize

BLENDS = {
    "brightness": ImageEnhance.Brightness,
    "contrast": ImageEnhance.Contrast,
    "saturation": ImageEnhance.Color,
}


def jitter(count, channels=3, **amounts):
    """Images, the same with jitter, and the factors and orders drawn."""
    amounts = dict.fromkeys(BLENDS, 0.0) | amounts
    images = pictures(count, 12, 8, channels=channels)
    found = jax.jit(jax.vmap(partial(color_jitter, **amounts)))(keys(count), images)
    draw = partial(draw_jitter, amounts=jnp.float32([*amounts.values()]))
    return np.asarray(images), np.asarray(found), *over_keys(draw, count)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "channels"),
    [("brightness", 3), ("contrast", 3), ("saturation", 3), ("contrast", 1)],
)
def test_each_blend_is_within_one_of_pillows(name, channels):
    images, found, factors, _ = jitter(40, channels, **{name: 0.5})
    for ours, image, factor in zip(found, images, factors, strict=True):
        picture = Image.fromarray(image[..., 0] if channels == 1 else image)
        enhanced = BLENDS[name](picture).enhance(float(factor[[*BLENDS].index(name)]))
        expected = np.asarray(enhanced, int).reshape(image.shape)
        assert np.abs(ours.round() - expected).max() <= 1


@pytest.mark.slow
def test_blends_follow_the_drawn_order():
    # Amounts of 1 clip a lot, and clipping makes the order matter.
    for image, ours, factors, order in zip(
        *jitter(40, brightness=1.0, contrast=1.0, saturation=1.0), strict=True
    ):
        pixels = image.astype(np.float64)
        for blend in order:
            grey = pixels @ [[0.299], [0.587], [0.114]]
            other = (0, grey.mean(), grey)[blend]
            pixels = np.clip(other + factors[blend] * (pixels - other), 0, 255)
        np.testing.assert_allclose(ours, pixels, atol=1e-3)


@pytest.mark.slow
def test_draws():
    amounts = jnp.float32([0.2, 0.1, 0.3])
    factors, order = over_keys(partial(draw_jitter, amounts=amounts))
    for column, amount in zip(factors.T, amounts, strict=True):
        assert_uniform(column, 1 - amount - 1e-6, 1 + amount + 1e-6)
    assert np.abs(np.corrcoef(factors.T) - np.eye(3)).max() < 0.08
    codes = order @ [100, 10, 1]
    assert_equally_likely(codes, [12, 21, 102, 120, 201, 210])
    for code in np.unique(codes):  # the order is independent of the factors
        assert_uniform(factors[codes == code, 0], 0.8 - 1e-6, 1.2 + 1e-6)


def test_normalize():
    images = pictures(4)
    expected = (np.asarray(images) / 255 - CONSTANTS["mean"]) / CONSTANTS["std"]
    found = normalize(images, **CONSTANTS)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_array_equal(normalize(images[0], **CONSTANTS), found[0])
