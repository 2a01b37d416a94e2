"""Crop, flip and rotation as maps of pixel coordinates, and one gather; resizing.

A map says, for every pixel of the output, which pixel of the input it shows. With
nearest-neighbour sampling these are integers, so maps compose exactly: several
transforms cost one gather, and no pixel is resampled twice. A map is applied to the
coordinates of the transform that *follows* it, so a chain is built last to first::

    coordinates = random_rotation(k3, identity(32, 32), degrees=15.0)
    coordinates = random_flip(k2, coordinates, probability=0.5)
    coordinates = random_crop(k1, coordinates, padding=4)
    image = sample(image, coordinates)  # cropped, then flipped, then rotated
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float32, Int32, Key, Shaped


class Coordinates(NamedTuple):
    """The input pixel that each output pixel shows; black where ``valid`` is false."""

    row: Int32[Array, "h w"]
    column: Int32[Array, "h w"]
    valid: Bool[Array, "h w"]


def identity(height: int, width: int) -> Coordinates:
    """Returns the coordinates that leave an image of this size as it is."""
    row = jax.lax.broadcasted_iota(jnp.int32, (height, width), 0)
    column = jax.lax.broadcasted_iota(jnp.int32, (height, width), 1)
    return Coordinates(row, column, jnp.ones((height, width), bool))


def sample(
    image: Shaped[Array, "h w c"], coordinates: Coordinates
) -> Shaped[Array, "h w c"]:
    """Returns the pixels at the coordinates, zero where they leave the image."""
    height, width, channels = image.shape
    pixels = image.reshape(height * width, channels)
    # Black is one more pixel: masking after the gather would make every later pass over
    # the image compute the coordinates again.
    pixels = jnp.concatenate([pixels, jnp.zeros_like(pixels, shape=(1, channels))])
    index = coordinates.row * width + coordinates.column
    index = jnp.where(coordinates.valid, index, height * width)
    return pixels.at[index].get(mode="promise_in_bounds")


def mirror(coordinates: Coordinates, mirrored: Bool[Array, ""]) -> Coordinates:
    """Swaps left and right where ``mirrored``."""
    width = coordinates.row.shape[1]
    column = jnp.where(mirrored, width - 1 - coordinates.column, coordinates.column)
    return coordinates._replace(column=column)


def affine(coordinates: Coordinates, matrix: Int32[Array, "6"]) -> Coordinates:
    """Applies an affine map of 16.16 fixed-point integers; black beyond the image.

    The matrix is a to f, at most 1 in size but for c and f: column x of row y shows
    column ``a x + b y + c`` of row ``d x + e y + f``, rounded down. Pillow's
    ``Image.transform`` has these integers, with c and f at the centre of pixel 0. The
    sides of the image are below 4096 pixels.
    """
    a, b, c, d, e, f = matrix
    row, column = coordinates.row, coordinates.column
    x = a * column + b * row + c
    y = d * column + e * row + f
    return _bounded(y >> 16, x >> 16, coordinates)


def rotate(coordinates: Coordinates, angle: Float32[Array, ""]) -> Coordinates:
    """Rotates by degrees counter-clockwise about the image's centre, as Pillow does.

    ``Image.rotate(angle, NEAREST, fillcolor=0)`` uses a matrix of 16.16 fixed-point
    integers, rounded from float64. These are the same integers, found without float64:
    sine and cosine are carried as a whole number plus a float32 fraction. They differ,
    by one, only where the float64 value is within about 2e-6 of a rounding boundary
    (3e-5 for the two offsets, at 32 pixels). So the pixels are Pillow's for all but
    about one angle in a million. Devices differ within the same bounds. The sides of
    the image are below 4096 pixels.
    """
    height, width = coordinates.row.shape
    step = jnp.round(angle * _STEPS_PER_DEGREE)
    remainder = (angle - step / _STEPS_PER_DEGREE) * math.radians(1)
    step = step.astype(jnp.int32)
    sine, sine_fraction = _fixed_point_sine(step, remainder)
    cosine, cosine_fraction = _fixed_point_sine(step + _TURN // 4, remainder)

    # Offsets put the centre of the image on itself: (side - cosine * (width - 1)
    # +- sine * (height - 1)) / 2, rounded half up; doubled until the last line.
    def offset(side: int, across: int, down: int) -> Int32[Array, ""]:
        fraction = sine_fraction * down - cosine_fraction * across
        whole = side * 65536 - cosine * across + sine * down
        return (whole + jnp.floor(fraction).astype(jnp.int32) + 1) >> 1

    right = offset(width, width - 1, height - 1)
    down = offset(height, height - 1, 1 - width)
    matrix = jnp.stack([cosine, -sine, right, sine, cosine, down])
    return affine(coordinates, matrix)


def random_crop(
    key: Key[Array, ""], coordinates: Coordinates, *, padding: int
) -> Coordinates:
    """Pads with black on each side and crops to the old size, at a uniform offset."""
    offsets = jnp.floor(jax.random.uniform(key, (2,)) * (2 * padding + 1))
    down, right = offsets.astype(jnp.int32) - padding
    return _bounded(coordinates.row + down, coordinates.column + right, coordinates)


def random_flip(
    key: Key[Array, ""], coordinates: Coordinates, *, probability: float
) -> Coordinates:
    """Swaps left and right with the given probability."""
    return mirror(coordinates, jax.random.uniform(key) < probability)


def random_rotation(
    key: Key[Array, ""], coordinates: Coordinates, *, degrees: float
) -> Coordinates:
    """Rotates by an angle uniform in [-degrees, degrees), as :func:`rotate` does.

    Angles are multiples of 1/65536 degree, which float32 holds exactly; each compiler
    could round a product in its own way.
    """
    units = jnp.round((2 * jax.random.uniform(key) - 1) * (degrees * 65536))
    return rotate(coordinates, units / 65536)


def _bounded(
    row: Int32[Array, "h w"], column: Int32[Array, "h w"], coordinates: Coordinates
) -> Coordinates:
    """Keeps coordinates valid if they were before and are inside the image."""
    height, width = row.shape
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    return Coordinates(row, column, coordinates.valid & inside)


# In steps this small the second-order expansion adds at most 9 units of 1/65536, which
# float32 holds to a millionth of a unit.
_STEPS_PER_DEGREE = 64
_TURN = 360 * _STEPS_PER_DEGREE
# To 15 digits, as Pillow rounds its matrix: sin 30 is then 1/2 exactly.
_SINE = 65536 * np.sin(np.arange(_TURN) * (2 * np.pi / _TURN)).round(15)
_WHOLE = np.rint(_SINE).astype(np.int32)
_FRACTION = (_SINE - _WHOLE).astype(np.float32)


def _fixed_point_sine(
    step: Int32[Array, ""], remainder: Float32[Array, ""]
) -> tuple[Int32[Array, ""], Float32[Array, ""]]:
    """Returns 65536 sin(angle) as the nearest whole number and a fraction in +-1/2.

    The angle is a number of steps of 1/64 degree, and a remainder in radians.
    """
    value, slope = step % _TURN, (step + _TURN // 4) % _TURN
    whole, fraction = jnp.asarray(_WHOLE)[value], jnp.asarray(_FRACTION)[value]
    sine = jnp.asarray(_SINE, jnp.float32)
    fraction += remainder * (sine[slope] - sine[value] * remainder / 2)
    carry = jnp.floor(fraction + 0.5)
    return whole + carry.astype(jnp.int32), fraction - carry


def resize(
    images: Float[Array, "b h w c"], size: int | None
) -> Float[Array, "b new_h new_w c"]:
    """Scales images to ``size`` by ``size`` pixels; None leaves them as they are.

    Bilinear with antialiasing: a pixel is the mean under a triangle as wide as two of
    the new pixels, as in Pillow's ``Image.resize``.
    """
    if size is None or size == images.shape[1] == images.shape[2]:
        return images
    batch, _, _, channels = images.shape
    return jax.image.resize(images, (batch, size, size, channels), "bilinear")
