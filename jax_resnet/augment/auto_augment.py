"""TrivialAugment and RandAugment: operations drawn at random, one or several a row.

The operations and their magnitudes are torchvision's, and their results those of
Pillow, on which torchvision calls for images of bytes. Under ``jax.vmap`` a switch
would run all fourteen. Here an operation is a row of parameters, from a table made
when the function is traced, of three steps that every image goes through: a map of
coordinates (geometry), a blend with another image (brightness, colour, contrast,
sharpness) and a table of levels (posterize to equalize), of which one is kept.
"""

import enum
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, Int32, Key, Num

from jax_resnet.augment import geometry, pillow_ops


class Operation(enum.IntEnum):
    """The operations of both policies, in the order of torchvision's lists."""

    IDENTITY = 0
    SHEAR_X = 1
    SHEAR_Y = 2
    TRANSLATE_X = 3
    TRANSLATE_Y = 4
    ROTATE = 5
    BRIGHTNESS = 6
    COLOR = 7
    CONTRAST = 8
    SHARPNESS = 9
    POSTERIZE = 10
    SOLARIZE = 11
    AUTOCONTRAST = 12
    EQUALIZE = 13


class Parameters(NamedTuple):
    """What operations do; a table of them has the axes operation, bin and sign.

    Attributes:
      matrix: That of :func:`jax_resnet.augment.geometry.affine`.
      factor: 0 is the image that is blended with, 1 the image itself.
      mask: The bits of a level that are kept.
      threshold: Levels from here on are inverted.
    """

    matrix: Int32[Array | np.ndarray, "*table 6"]
    factor: Float32[Array | np.ndarray, "*table"]
    mask: Int32[Array | np.ndarray, "*table"]
    threshold: Int32[Array | np.ndarray, "*table"]


def trivial_augment(
    key: Key[Array, ""], image: Num[Array, "h w c"], *, bins: int = 31
) -> Float32[Array, "h w c"]:
    """Applies one operation at a random magnitude.

    TrivialAugment (Müller and Hutter 2021, https://arxiv.org/abs/2103.10158), in its
    "wide" space: operation, magnitude and, where it has one, sign are uniform. Black
    outside the image, nearest neighbour.

    Args:
      key: Typed PRNG key.
      image: Levels from 0 to 255 of one or three channels. Fractional ones keep their
        fraction under geometry and identity, and are rounded to whole ones by the
        other operations. For whole ones the result is Pillow's, bit by bit.
      bins: Number of magnitudes, evenly spaced; at least 2.
    """
    height, width, _ = image.shape
    (choice,) = draw(key, 1, bins)
    return apply(image, trivial_table(height, width, bins), choice)


def rand_augment(
    key: Key[Array, ""],
    image: Num[Array, "h w c"],
    *,
    operations: int = 2,
    magnitude: int = 9,
    bins: int = 31,
) -> Float32[Array, "h w c"]:
    """Applies several operations, one after the other, all at one magnitude.

    RandAugment (Cubuk et al. 2019, https://arxiv.org/abs/1909.13719, section 3), as
    torchvision has it: operations are drawn with replacement, and signs, uniformly.

    Args:
      key: Typed PRNG key.
      image: As for :func:`trivial_augment`.
      operations: Their number, N of the paper.
      magnitude: The bin of the magnitude, from 0 to ``bins - 1``; M of the paper.
      bins: Number of magnitudes, evenly spaced; at least 2.
    """
    height, width, _ = image.shape
    table = rand_table(height, width, bins)
    for choice in draw(key, operations, 1):
        image = apply(image, table, choice + jnp.int32([0, magnitude, 0]))
    return image


def trivial_table(height: int, width: int, bins: int) -> Parameters:
    """Returns what :func:`trivial_augment` chooses from, for images of a size."""
    return _table(
        height,
        width,
        bins,
        shear=0.99,
        translate=(32.0, 32.0),
        degrees=135.0,
        blend=0.99,
        bits=6,
    )


def rand_table(height: int, width: int, bins: int) -> Parameters:
    """Returns what :func:`rand_augment` chooses from, for images of a size."""
    return _table(
        height,
        width,
        bins,
        shear=0.3,
        translate=(150 / 331 * width, 150 / 331 * height),
        degrees=30.0,
        blend=0.9,
        bits=4,
    )


def draw(key: Key[Array, ""], count: int, bins: int) -> Int32[Array, "{count} 3"]:
    """Draws operation, bin and sign (0 for +, 1 for -), each uniform, so many times."""
    choices = jnp.float32([[len(Operation), bins, 2]])
    return jnp.floor(jax.random.uniform(key, (count, 3)) * choices).astype(jnp.int32)


def apply(
    image: Num[Array, "h w c"], table: Parameters, choice: Int32[Array, "3"]
) -> Float32[Array, "h w c"]:
    """Applies the operation, at the bin and with the sign that were chosen.

    Args:
      image: As for :func:`trivial_augment`.
      table: Of all operations, for the image's size.
      choice: Indices into the axes of the table.
    """
    operation = choice[0]
    matrix, factor, mask, threshold = (
        jnp.asarray(column)[tuple(choice)] for column in table
    )
    coordinates = geometry.affine(geometry.identity(*image.shape[:2]), matrix)
    seen = geometry.sample(image, coordinates).astype(jnp.float32)
    whole = jnp.round(seen)

    grey = pillow_ops.grey(whole)
    mean = jnp.floor(grey.mean(keepdims=True) + 0.5)
    other = jnp.where(operation == Operation.CONTRAST, mean, 0.0)
    other = jnp.where(operation == Operation.COLOR, grey, other)
    smooth = pillow_ops.smooth(whole)
    other = jnp.where(operation == Operation.SHARPNESS, smooth, other)
    blended = pillow_ops.blend(other, whole, factor)

    pixels = whole.astype(jnp.int32)
    counts = pillow_ops.histogram(pixels)
    level = jax.lax.broadcasted_iota(jnp.int32, counts.shape, 0)
    new = jnp.where(level < threshold, level & mask, 255 - level)
    stretched, equalized = pillow_ops.autocontrast(counts), pillow_ops.equalize(counts)
    new = jnp.where(operation == Operation.AUTOCONTRAST, stretched, new)
    new = jnp.where(operation == Operation.EQUALIZE, equalized, new)
    replaced = pillow_ops.look_up(new, pixels).astype(jnp.float32)

    is_blend = (operation >= Operation.BRIGHTNESS) & (operation < Operation.POSTERIZE)
    result = jnp.where(is_blend, blended, seen)
    return jnp.where(operation >= Operation.POSTERIZE, replaced, result)


def _table(
    height: int,
    width: int,
    bins: int,
    *,
    shear: float,
    translate: tuple[float, float],
    degrees: float,
    blend: float,
    bits: int,
) -> Parameters:
    """Makes the table of all operations.

    Args:
      height: Of the images, in pixels.
      width: Likewise.
      bins: Number of magnitudes.
      shear: The greatest magnitude, as a slope.
      translate: In pixels, of x and y.
      degrees: Of rotation.
      blend: Of the four blends, the factor less 1.
      bits: That posterize drops.
    """

    def up_to(greatest: float) -> np.ndarray:
        # In float32, where torch.linspace is; its last digit depends on the processor,
        # and where that makes 15.999999 of 16, torchvision translates by 15 pixels.
        magnitudes = np.linspace(0, greatest, bins, dtype=np.float32)
        return magnitudes[:, None].astype(np.float64) * [1, -1]

    shape = (len(Operation), bins, 2)
    # From output to input, in the convention of Pillow's Image.transform.
    matrix = np.zeros((*shape, 6))
    matrix[..., [0, 4]] = 1
    matrix[Operation.SHEAR_X, ..., 1] = up_to(shear)
    matrix[Operation.SHEAR_Y, ..., 3] = up_to(shear)
    matrix[Operation.TRANSLATE_X, ..., 2] = -np.trunc(up_to(translate[0]))
    matrix[Operation.TRANSLATE_Y, ..., 5] = -np.trunc(up_to(translate[1]))
    matrix[Operation.ROTATE] = _rotation(up_to(degrees), height, width)
    # Pillow looks at the centres of pixels, and rounds to its fixed point half up.
    matrix[..., 2] += matrix[..., 0] * 0.5 + matrix[..., 1] * 0.5
    matrix[..., 5] += matrix[..., 3] * 0.5 + matrix[..., 4] * 0.5

    factor = np.ones(shape)
    factor[Operation.BRIGHTNESS : Operation.POSTERIZE] += up_to(blend)
    dropped = np.arange(bins, dtype=np.float32) / np.float32((bins - 1) / bits)
    mask = np.full(shape, 255)
    mask[Operation.POSTERIZE] &= -1 << dropped.round().astype(int)[:, None]
    threshold = np.full(shape, 256)
    threshold[Operation.SOLARIZE] = np.ceil(up_to(255.0)[::-1, :1])
    return Parameters(
        matrix=np.floor(matrix * 65536 + 0.5).astype(np.int32),
        factor=factor.astype(np.float32),
        mask=mask.astype(np.int32),
        threshold=threshold.astype(np.int32),
    )


def _rotation(degrees: np.ndarray, height: int, width: int) -> np.ndarray:
    """Returns the matrices of ``Image.rotate``, its last axis the six numbers."""
    angle = -np.radians(degrees % 360)
    cosine, sine = np.cos(angle).round(15), np.sin(angle).round(15)
    x, y = width / 2, height / 2
    right = -x * cosine - y * sine + x
    down = x * sine - y * cosine + y
    return np.stack([cosine, sine, right, -sine, cosine, down], axis=-1)
