import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from jax_resnet.evaluation import corruptions
from jax_resnet.evaluation.corruptions import CORRUPTIONS, STRENGTHS, corrupt


def pictures(n=4, height=32, width=32, channels=3, seed=0):
    """Smooth, as photographs are, with some noise."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0, 255, (n, height // 8 + 1, width // 8 + 1, channels))
    smooth = ndimage.zoom(coarse, (1, 8, 8, 1), order=1)[:, :height, :width]
    return np.clip(smooth + rng.normal(0, 5, smooth.shape), 0, 255).astype(np.uint8)


def corrupted(images, name, strength, seed=0):
    key = jax.random.key(seed)
    return np.asarray(corrupt(key, jnp.asarray(images), name, strength))


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_stronger_is_farther_from_the_image(name):
    images = pictures()
    errors = [
        np.mean((corrupted(images, name, s).astype(float) - images) ** 2)
        for s in STRENGTHS
    ]
    assert errors[0] > 0
    assert errors == sorted(errors)


@pytest.mark.parametrize("strength", STRENGTHS)
def test_blur_is_scipys(strength):
    images = pictures()
    sigma = corruptions._BLUR[strength - 1]
    radius = int(np.ceil(3 * sigma))
    expected = ndimage.gaussian_filter(
        images.astype(float), (0, sigma, sigma, 0), mode="nearest", radius=radius
    )
    found = corrupted(images, "blur", strength)
    np.testing.assert_allclose(found, expected, atol=0.51)


@pytest.mark.parametrize("strength", STRENGTHS)
@pytest.mark.parametrize("size", [(32, 32), (30, 37)])
def test_jpeg_like_is_jpeg_of_a_grey_image(strength, size):
    images = pictures(height=size[0], width=size[1], channels=1)
    quality = corruptions._QUALITY[strength - 1]
    expected = []
    for image in images:
        file = io.BytesIO()
        Image.fromarray(image[..., 0]).save(file, "JPEG", quality=quality)
        expected.append(np.asarray(Image.open(file))[..., None])
    found = corrupted(images, "JPEG-like", strength)
    difference = np.abs(found - np.stack(expected).astype(int))
    # libjpeg's transform is in integers, and rounds some coefficients the other way.
    assert np.mean(difference <= 1) > 0.93
    assert difference.mean() < 0.3


def test_contrast_and_brightness_by_hand():
    images = pictures()
    mean = images.mean(axis=(1, 2, 3), keepdims=True)
    found = corrupted(images, "contrast", 3)
    np.testing.assert_allclose(found, mean + 0.4 * (images - mean), atol=0.51)
    found = corrupted(images, "brightness", 2)
    np.testing.assert_allclose(found, np.clip(images + 0.16 * 255, 0, 255), atol=0.51)


def test_noise_is_normal_and_drawn_from_the_key():
    grey = np.full((20, 32, 32, 3), 128, np.uint8)
    noise = corrupted(grey, "noise", 3).astype(float) - 128
    assert noise.mean() == pytest.approx(0, abs=0.3)
    assert noise.std() == pytest.approx(0.06 * 255, rel=0.02)
    np.testing.assert_array_equal(corrupted(grey, "noise", 3), noise + 128)
    assert (corrupted(grey, "noise", 3, seed=1) != noise + 128).any()
