"""Colour jitter, and the normalisation of pixel values."""

import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, Int32, Key, Num

# The blends of color_jitter, in the order of its factors.
_CONTRAST, _SATURATION = 1, 2


def normalize(
    images: Num[Array, "*b h w c"], mean: Sequence[float], std: Sequence[float]
) -> Float32[Array, "*b h w c"]:
    """Scales pixel values to [0, 1], subtracts the mean and divides by the deviation.

    The images have values from 0 to 255; mean and std are those of each channel in [0,
    1].
    """
    shape = (1,) * (images.ndim - 1) + (images.shape[-1],)
    centre = np.asarray(mean, np.float32).reshape(shape)
    scale = np.asarray(std, np.float32).reshape(shape)
    return (images.astype(jnp.float32) / 255 - centre) / scale


def color_jitter(
    key: Key[Array, ""],
    image: Num[Array, "h w c"],
    *,
    brightness: float,
    contrast: float,
    saturation: float,
) -> Float32[Array, "h w c"]:
    """Changes brightness, contrast and saturation, in an order drawn per image.

    Each blends the image with another: brightness with black, contrast with the image's
    mean grey, saturation with the grey of each pixel. A factor of 0 gives the other
    image, 1 the image itself; it is uniform in [1 - brightness, 1 + brightness), and so
    for the others. The image has one or three channels, with values from 0 to 255.
    Results are clipped to that, not rounded.
    """
    factors, order = draw_jitter(key, jnp.float32([brightness, contrast, saturation]))
    pixels = image.astype(jnp.float32)
    # The other image is chosen by value: under vmap a switch would run all branches.
    for blend in order:
        grey = _grayscale(pixels)
        mean = jnp.where(blend == _CONTRAST, grey.mean(), 0.0)
        other = jnp.where(blend == _SATURATION, grey, mean)
        pixels = jnp.clip(other + factors[blend] * (pixels - other), 0, 255)
    return pixels


def draw_jitter(
    key: Key[Array, ""], amounts: Float32[Array, "3"]
) -> tuple[Float32[Array, "3"], Int32[Array, "3"]]:
    """Draws factors uniform in 1 +- amount, and an order of the three blends."""
    draws = jax.random.uniform(key, (4,))
    orders = jnp.int32(list(itertools.permutations(range(3))))
    order = orders[(draws[3] * 6).astype(jnp.int32)]
    return 1 + amounts * (2 * draws[:3] - 1), order


def _grayscale(pixels: Float32[Array, "h w c"]) -> Float32[Array, "h w 1"]:
    """Returns the luma (ITU-R BT.601) of each pixel."""
    if pixels.shape[-1] == 1:
        return pixels
    red, green, blue = jnp.split(pixels, 3, axis=-1)
    return 0.299 * red + 0.587 * green + 0.114 * blue
