"""Grey levels as Pillow computes them: greys, smoothing, tables of 256 levels.

Levels are whole numbers from 0 to 255, and for them every result is Pillow's, bit by
bit. The tables are made from a histogram, and say for each level and channel the one
that takes its place.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, Int32


def grey(levels: Float32[Array, "h w c"]) -> Float32[Array, "h w 1"]:
    """Returns whole grey levels (ITU-R BT.601) of one or three channels.

    As ``Image.convert("L")``: with weights in 1/65536, whose sums float32 holds
    exactly.
    """
    if levels.shape[-1] == 1:
        return jnp.round(levels)
    red, green, blue = jnp.split(levels, 3, axis=-1)
    total = 19595 * red + 38470 * green + 7471 * blue
    return jnp.floor(total / 65536 + 0.5)


def smooth(levels: Float32[Array, "h w c"]) -> Float32[Array, "h w c"]:
    """Averages each pixel, five times, with its eight neighbours, once each.

    As ``ImageFilter.SMOOTH``: rounded to whole levels, the border left as it is.
    """
    height, width, _ = levels.shape
    lines = levels[:-2] + levels[1:-1] + levels[2:]
    boxes = lines[:, :-2] + lines[:, 1:-1] + lines[:, 2:]
    inner = jnp.floor((boxes + 4 * levels[1:-1, 1:-1]) / 13 + 0.5)
    if 0 in inner.shape:
        return levels
    row = jax.lax.broadcasted_iota(jnp.int32, (height, width, 1), 0)
    column = jax.lax.broadcasted_iota(jnp.int32, (height, width, 1), 1)
    is_inner = (row > 0) & (row < height - 1) & (column > 0) & (column < width - 1)
    return jnp.where(is_inner, jnp.pad(inner, ((1, 1), (1, 1), (0, 0))), levels)


def blend(
    other: Float32[Array, "_ _ _"],
    levels: Float32[Array, "h w c"],
    factor: Float32[Array, ""],
) -> Float32[Array, "h w c"]:
    """Blends with another image: a factor of 0 gives the other, 1 the image.

    As ``Image.blend``: in float32, clipped, the fraction dropped.

    Args:
      other: What broadcasts to the image.
      levels: The image.
      factor: From 1/128 to 2.
    """
    # Compilers may round once where Pillow does twice, after the product and after
    # the sum. In two parts the product is exact before its first rounding, and there
    # is nothing to leave out.
    coarse = jnp.round(factor * 32768) / 32768
    fine = factor - coarse
    difference = levels - other
    product = coarse * difference + fine * difference
    return jnp.floor(jnp.clip(other + product, 0, 255))


def histogram(levels: Int32[Array, "h w c"]) -> Int32[Array, "256 c"]:
    """Counts the pixels of each level in each channel."""
    channels = levels.shape[-1]
    channel = jax.lax.broadcasted_iota(jnp.int32, levels.shape, 2)
    # A scatter: on a CPU a hundred times faster than comparing with all 256 levels.
    # Integers are added, so that their order does not matter.
    counts = jnp.zeros(256 * channels, jnp.int32)
    counts = counts.at[levels * channels + channel].add(1, mode="promise_in_bounds")
    return counts.reshape(256, channels)


def look_up(
    table: Int32[Array, "256 c"], levels: Int32[Array, "h w c"]
) -> Int32[Array, "h w c"]:
    """Returns what a table has for each level of each channel."""
    channels = levels.shape[-1]
    channel = jax.lax.broadcasted_iota(jnp.int32, levels.shape, 2)
    index = levels * channels + channel
    return table.reshape(-1).at[index].get(mode="promise_in_bounds")


def autocontrast(counts: Int32[Array, "256 c"]) -> Int32[Array, "256 c"]:
    """Stretches the levels of each channel to the whole range.

    As ``ImageOps.autocontrast``, which multiplies and adds in float64 and drops the
    fraction: where the exact result is whole, it may get the level below.

    Args:
      counts: The histogram. A channel of one level alone stays as it is.
    """
    low, high = _extremes(counts)
    span = jnp.maximum(high - low, 1)
    scaled = 255 * jnp.clip(_every_level() - low, 0, span)
    stretched = _quotient(scaled, span)
    is_whole = stretched * span == scaled
    bit = stretched * jnp.asarray(_PARTS)[span] // 255
    short = jnp.asarray(_falls_short())[span, low]
    word = jnp.where(bit < 32, short[..., 0], short[..., 1])
    falls_short = (word >> (bit % 32).astype(jnp.uint32)) & 1
    stretched -= (is_whole & (falls_short == 1)).astype(jnp.int32)
    return jnp.where(high > low, stretched, _every_level())


def equalize(counts: Int32[Array, "256 c"]) -> Int32[Array, "256 c"]:
    """Spreads the pixels of each channel evenly over the levels.

    As ``ImageOps.equalize``: the highest level counts for nothing, and a channel stays
    as it is where fewer than 255 pixels are below it.

    Args:
      counts: The histogram.
    """
    _, high = _extremes(counts)
    step = jnp.where(_every_level() < high, counts, 0).sum(0, keepdims=True) // 255
    below = jnp.cumsum(counts, axis=0) - counts
    table = _quotient(step // 2 + below, jnp.maximum(step, 1))
    return jnp.where(step > 0, jnp.minimum(table, 255), _every_level())


def _quotient(
    numbers: Int32[Array, "256 c"], divisors: Int32[Array, "1 c"]
) -> Int32[Array, "256 c"]:
    # Of numbers that are not negative: without the cases that floor division adds.
    return jax.lax.div(numbers, jnp.broadcast_to(divisors, numbers.shape))


def _every_level() -> Int32[Array, "256 1"]:
    return jax.lax.broadcasted_iota(jnp.int32, (256, 1), 0)


def _extremes(
    counts: Int32[Array, "256 c"],
) -> tuple[Int32[Array, "1 c"], Int32[Array, "1 c"]]:
    """Returns the lowest and the highest level that occurs in each channel."""
    low = jnp.where(counts > 0, _every_level(), 255).min(0, keepdims=True)
    high = jnp.where(counts > 0, _every_level(), 0).max(0, keepdims=True)
    return low, high


# A level is stretched to a whole number if it is so many parts of the span above the
# lowest.
_PARTS = np.gcd(np.arange(256), 255).astype(np.int32)


@functools.cache
def _falls_short() -> np.ndarray:
    """Says where float64 arithmetic gets a level less than the exact one.

    Returns:
      uint32 ``[256, 256, 2]`` by the span and the lowest level: 64 bits, the first of
      the first word for no parts of the span, the next for one part, and so on.
    """
    table = np.zeros((256, 256, 2), np.uint32)
    for span in range(1, 256):
        low = np.arange(256 - span)[:, None]
        above = np.arange(_PARTS[span] + 1) * span // _PARTS[span]
        scale = 255 / span
        stretched = ((low + above) * scale + -low * scale).astype(int)
        falls_short = stretched < above * 255 // span
        for part in np.flatnonzero(falls_short.any(0)):
            bits = falls_short[:, part].astype(np.uint32) << np.uint32(part % 32)
            table[span, : 256 - span, part // 32] |= bits
    return table
