"""Corruptions of images, to see how a model stands them; on the device.

These are this project's own, with five strengths each, and not those of CIFAR-100-C
(Hendrycks, Dietterich 2019): figures under them compare models evaluated here alone.
"""

from collections.abc import Callable, Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, UInt8

STRENGTHS = (1, 2, 3, 4, 5)

Batch = Float[Array, "n h w c"]
Corruption = Callable[[Key[Array, ""], Batch, int], Batch]

_NOISE = (0.02, 0.04, 0.06, 0.09, 0.12)  # standard deviation, of a range of 1
_BLUR = (0.4, 0.6, 0.8, 1.0, 1.4)  # standard deviation in pixels
_CONTRAST = (0.75, 0.55, 0.4, 0.25, 0.15)  # factor of the distance from the mean
_BRIGHTNESS = (0.08, 0.16, 0.24, 0.32, 0.4)  # added, of a range of 1
_QUALITY = (80, 55, 35, 20, 10)  # as libjpeg scales its tables


def corrupt(
    key: Key[Array, ""], images: UInt8[Array, "n h w c"], name: str, strength: int
) -> UInt8[Array, "n h w c"]:
    """Images under one of :data:`CORRUPTIONS`; compiled once for each strength.

    Args:
        key: of the random ones; the same key gives the same images.
        images: of any size.
        name: of the corruption.
        strength: one of :data:`STRENGTHS`.
    """
    return _corrupt(key, images, name=name, strength=strength)


@partial(jax.jit, static_argnames=("name", "strength"))
def _corrupt(
    key: Key[Array, ""], images: UInt8[Array, "n h w c"], *, name: str, strength: int
) -> UInt8[Array, "n h w c"]:
    pixels = images.astype(jnp.float32) / 255
    corrupted = CORRUPTIONS[name](key, pixels, strength)
    return jnp.round(255 * jnp.clip(corrupted, 0, 1)).astype(jnp.uint8)


def noise(key: Key[Array, ""], images: Batch, strength: int) -> Batch:
    """Adds Gaussian noise to each channel of each pixel."""
    return images + _NOISE[strength - 1] * jax.random.normal(key, images.shape)


def blur(key: Key[Array, ""], images: Batch, strength: int) -> Batch:
    """Convolves with a Gaussian; beyond the border the border's pixels go on."""
    sigma = _BLUR[strength - 1]
    radius = int(np.ceil(3 * sigma))
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-(offsets**2) / (2 * sigma**2))
    weights /= weights.sum()
    for axis in (1, 2):
        padding = [(radius, radius) if a == axis else (0, 0) for a in range(4)]
        padded = jnp.pad(images, padding, mode="edge")
        size = images.shape[axis]
        parts = (
            weight * jax.lax.slice_in_dim(padded, start, start + size, axis=axis)
            for start, weight in enumerate(weights.tolist())
        )
        images = sum(parts, start=jnp.zeros_like(images))
    return images


def contrast(key: Key[Array, ""], images: Batch, strength: int) -> Batch:
    """Moves each image's pixels towards their mean."""
    mean = images.mean(axis=(1, 2, 3), keepdims=True)
    return mean + _CONTRAST[strength - 1] * (images - mean)


def brightness(key: Key[Array, ""], images: Batch, strength: int) -> Batch:
    """Makes every pixel lighter by the same amount."""
    return images + _BRIGHTNESS[strength - 1]


def jpeg_like(key: Key[Array, ""], images: Batch, strength: int) -> Batch:
    """Rounds the cosine transform of 8x8 blocks as JPEG does.

    ITU-T T.81, annexes A.3.3 and K.1, with the luminance table for every channel of
    the image as it is: no YCbCr, no subsampling, no coding.
    """
    n, height, width, channels = images.shape
    quality = _QUALITY[strength - 1]
    scale = 5000 / quality if quality < 50 else 200 - 2 * quality
    table = np.clip(np.floor((_LUMINANCE * scale + 50) / 100), 1, 255).astype(
        np.float32
    )
    more = (-height % 8, -width % 8)
    padded = jnp.pad(images, ((0, 0), (0, more[0]), (0, more[1]), (0, 0)), mode="edge")
    blocks = padded.reshape(n, (height + more[0]) // 8, 8, -1, 8, channels)
    cosine = jnp.asarray(_cosine_basis())
    transform = "nyixjc,ui,vj->nyuxvc"
    precise = jax.lax.Precision.HIGHEST
    spectrum = jnp.einsum(
        transform, 255 * blocks - 128, cosine, cosine, precision=precise
    )
    step = jnp.asarray(table)[None, None, :, None, :, None]
    # Halves, which are common in the mean of a block, go away from zero in libjpeg.
    spectrum = step * jnp.trunc(spectrum / step + jnp.copysign(0.5, spectrum))
    back = jnp.einsum(
        "nyuxvc,ui,vj->nyixjc", spectrum, cosine, cosine, precision=precise
    )
    restored = ((back + 128) / 255).reshape(padded.shape)
    return restored[:, :height, :width]


def _cosine_basis() -> Float[np.ndarray, "8 8"]:
    """Row u is the u-th basis vector of the orthonormal discrete cosine transform."""
    u, i = np.mgrid[:8, :8]
    basis = np.cos((2 * i + 1) * u * np.pi / 16) / 2
    basis[0] /= np.sqrt(2)
    return basis.astype(np.float32)


# ITU-T T.81, table K.1.
_LUMINANCE = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
)

CORRUPTIONS: Mapping[str, Corruption] = {
    "noise": noise,
    "blur": blur,
    "contrast": contrast,
    "brightness": brightness,
    "JPEG-like": jpeg_like,
}
