"""Pillow's pixel operations: grayscale, smoothing, blending, and lookup tables.

Pixel values are whole numbers from 0 to 255. For these every result is Pillow's, bit
for bit. A lookup table has the new value for each value, per channel; it is made from
the histogram of an image.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, Int32


def grayscale(pixels: Float32[Array, "h w c"]) -> Float32[Array, "h w 1"]:
    """Returns the luma (ITU-R BT.601) of one or three channels, as Pillow does."""
    if pixels.shape[-1] == 1:
        return jnp.round(pixels)
    red, green, blue = jnp.split(pixels, 3, axis=-1)
    # Weights in 1/65536, whose sums float32 holds exactly.
    total = 19595 * red + 38470 * green + 7471 * blue
    return jnp.floor(total / 65536 + 0.5)


def smooth(pixels: Float32[Array, "h w c"]) -> Float32[Array, "h w c"]:
    """Averages each pixel, with weight 5, and its eight neighbours, with weight 1.

    Like ``ImageFilter.SMOOTH``: rounds the result, and leaves the border as it is. The
    image has at least 3 by 3 pixels.
    """
    height, width, _ = pixels.shape
    lines = pixels[:-2] + pixels[1:-1] + pixels[2:]
    boxes = lines[:, :-2] + lines[:, 1:-1] + lines[:, 2:]
    inner = jnp.floor((boxes + 4 * pixels[1:-1, 1:-1]) / 13 + 0.5)
    border = ((1, 1), (1, 1), (0, 0))
    is_inner = np.pad(np.ones((height - 2, width - 2, 1), bool), border)
    return jnp.where(is_inner, jnp.pad(inner, border), pixels)


def blend(
    other: Float32[Array, "_ _ _"],
    pixels: Float32[Array, "h w c"],
    factor: Float32[Array, ""],
) -> Float32[Array, "h w c"]:
    """Blends two images, like ``Image.blend``: in float32, clipped, rounded down.

    The factor is from 1/128 to 2: 0 would give the other image, 1 gives the image
    itself.
    """
    # Pillow rounds twice, after the product and after the sum; a compiler may fuse
    # both and round once. The two parts of the factor make each product exact.
    coarse = jnp.round(factor * 32768) / 32768
    fine = factor - coarse
    difference = pixels - other
    product = coarse * difference + fine * difference
    return jnp.floor(jnp.clip(other + product, 0, 255))


def histogram(pixels: Int32[Array, "h w c"]) -> Int32[Array, "256 c"]:
    """Counts the pixels of each value in each channel."""
    # A scatter is a hundred times faster on a CPU than comparing with all 256 values.
    # It adds integers, so their order does not matter.
    counts = jnp.zeros(256 * pixels.shape[-1], jnp.int32)
    counts = counts.at[_flat_index(pixels)].add(1, mode="promise_in_bounds")
    return counts.reshape(256, -1)


def look_up(
    table: Int32[Array, "256 c"], pixels: Int32[Array, "h w c"]
) -> Int32[Array, "h w c"]:
    """Replaces each pixel's value by its entry in the table of its channel."""
    return table.reshape(-1).at[_flat_index(pixels)].get(mode="promise_in_bounds")


def autocontrast(counts: Int32[Array, "256 c"]) -> Int32[Array, "256 c"]:
    """Makes the table that stretches each channel to the range from 0 to 255.

    Like ``ImageOps.autocontrast``, which computes in float64 and rounds down: where the
    exact result is whole, it may come out one lower. A channel with a single value
    stays as it is.
    """
    low, high = _extremes(counts)
    span = jnp.maximum(high - low, 1)
    scaled = 255 * jnp.clip(_all_values() - low, 0, span)
    stretched = _quotient(scaled, span)
    is_whole = stretched * span == scaled
    bit = stretched * jnp.asarray(_PARTS)[span] // 255
    words = jnp.asarray(_one_lower())[span, low]
    word = jnp.where(bit < 32, words[..., 0], words[..., 1])
    one_lower = (word >> (bit % 32).astype(jnp.uint32)) & 1
    stretched -= (is_whole & (one_lower == 1)).astype(jnp.int32)
    return jnp.where(high > low, stretched, _all_values())


def equalize(counts: Int32[Array, "256 c"]) -> Int32[Array, "256 c"]:
    """Makes the table that spreads the pixels of each channel evenly over all values.

    Like ``ImageOps.equalize``, which does not count the pixels of the highest value,
    and leaves a channel as it is where fewer than 255 pixels are below that.
    """
    _, high = _extremes(counts)
    step = jnp.where(_all_values() < high, counts, 0).sum(0, keepdims=True) // 255
    below = jnp.cumsum(counts, axis=0) - counts
    table = _quotient(step // 2 + below, jnp.maximum(step, 1))
    return jnp.where(step > 0, jnp.minimum(table, 255), _all_values())


def _flat_index(pixels: Int32[Array, "h w c"]) -> Int32[Array, "h w c"]:
    """Returns the index of each pixel's value in a flattened table ``[256, c]``."""
    channel = jax.lax.broadcasted_iota(jnp.int32, pixels.shape, 2)
    return pixels * pixels.shape[-1] + channel


def _quotient(
    numbers: Int32[Array, "256 c"], divisors: Int32[Array, "1 c"]
) -> Int32[Array, "256 c"]:
    # Numbers are not negative here, so floor division would only add cases.
    return jax.lax.div(numbers, jnp.broadcast_to(divisors, numbers.shape))


def _all_values() -> Int32[Array, "256 1"]:
    return jax.lax.broadcasted_iota(jnp.int32, (256, 1), 0)


def _extremes(
    counts: Int32[Array, "256 c"],
) -> tuple[Int32[Array, "1 c"], Int32[Array, "1 c"]]:
    """Returns the lowest and the highest value that occurs in each channel."""
    low = jnp.where(counts > 0, _all_values(), 255).min(0, keepdims=True)
    high = jnp.where(counts > 0, _all_values(), 0).max(0, keepdims=True)
    return low, high


# Autocontrast stretches the values between lowest and highest to whole numbers at each
# of this many equal parts of the span.
_PARTS = np.gcd(np.arange(256), 255).astype(np.int32)


@functools.cache
def _one_lower() -> np.ndarray:
    """Finds where float64 arithmetic gets one less than the exact whole number.

    Returns uint32 ``[256, 256, 2]`` by the span and the lowest value: a bit for each
    part of the span, from the lowest bit of the first word.
    """
    table = np.zeros((256, 256, 2), np.uint32)
    for span in range(1, 256):
        low = np.arange(256 - span)[:, None]
        above = np.arange(_PARTS[span] + 1) * span // _PARTS[span]
        scale = 255 / span
        stretched = ((low + above) * scale + -low * scale).astype(int)
        one_lower = stretched < above * 255 // span
        for part in np.flatnonzero(one_lower.any(0)):
            bits = one_lower[:, part].astype(np.uint32) << np.uint32(part % 32)
            table[span, : 256 - span, part // 32] |= bits
    return table
