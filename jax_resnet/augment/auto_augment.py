"""TrivialAugment and RandAugment: one or several operations, drawn at random.

The operations and their magnitudes are torchvision's. Their results are those of
Pillow, which torchvision calls for uint8 images. Under ``jax.vmap`` a switch would run
all fourteen operations. Here each is a row in a table of parameters for three steps
that every image goes through: a map of coordinates (geometry), a blend with another
image (brightness, colour, contrast, sharpness) and a new value for each pixel value
(posterize to equalize). One of the three results is kept.
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


class OperationTable(NamedTuple):
    """Parameters of all operations; the axes ``*t`` are operation, bin and sign."""

    # for :func:`jax_resnet.augment.geometry.affine`
    matrix: Int32[Array | np.ndarray, "*t 6"]
    # weight of the image in a blend: 0 is the other image, 1 the image itself
    factor: Float32[Array | np.ndarray, "*t"]
    mask: Int32[Array | np.ndarray, "*t"]  # bits of a pixel value that are kept
    threshold: Int32[Array | np.ndarray, "*t"]  # values from here on are inverted


class _Ranges(NamedTuple):
    """The greatest magnitude of each kind of operation."""

    shear: float  # slope
    translate: tuple[float, float]  # pixels, in x and y
    degrees: float  # of rotation
    blend: float  # the factor minus 1
    bits: int  # that posterize drops


def trivial_augment(
    key: Key[Array, ""], image: Num[Array, "h w c"], *, bins: int = 31
) -> Float32[Array, "h w c"]:
    """Applies one operation at a random magnitude.

    TrivialAugment (Müller and Hutter 2021, https://arxiv.org/abs/2103.10158), in its
    "wide" space: operation, magnitude and sign are uniform; the magnitudes are ``bins``
    evenly spaced ones. Samples the nearest neighbour, and black outside the image. The
    image has one or three channels, with values from 0 to 255. For whole values the
    result is Pillow's, bit for bit. Geometry and identity keep fractions, the other
    operations round them.
    """
    height, width, _ = image.shape
    (choice,) = draw_operations(key, 1, bins)
    return apply_operation(image, trivial_table(height, width, bins), choice)


def rand_augment(
    key: Key[Array, ""],
    image: Num[Array, "h w c"],
    *,
    operations: int = 2,
    magnitude: int = 9,
    bins: int = 31,
) -> Float32[Array, "h w c"]:
    """Applies several operations, one after the other, all at one magnitude.

    RandAugment (Cubuk et al. 2019, https://arxiv.org/abs/1909.13719, section 3), as in
    torchvision: operations are drawn with replacement, and operations and signs are
    uniform. The magnitude, M of the paper, is one of ``bins`` evenly spaced ones. The
    image is that of :func:`trivial_augment`.
    """
    height, width, _ = image.shape
    table = rand_table(height, width, bins)
    for choice in draw_operations(key, operations, 1):
        image = apply_operation(image, table, choice + jnp.int32([0, magnitude, 0]))
    return image


def trivial_table(height: int, width: int, bins: int) -> OperationTable:
    """Returns the operations of :func:`trivial_augment` for an image size in pixels."""
    ranges = _Ranges(0.99, translate=(32.0, 32.0), degrees=135.0, blend=0.99, bits=6)
    return _make_table(height, width, bins, ranges)


def rand_table(height: int, width: int, bins: int) -> OperationTable:
    """Returns the operations of :func:`rand_augment` for an image size in pixels."""
    translate = 150 / 331 * width, 150 / 331 * height
    ranges = _Ranges(0.3, translate=translate, degrees=30.0, blend=0.9, bits=4)
    return _make_table(height, width, bins, ranges)


def draw_operations(
    key: Key[Array, ""], count: int, bins: int
) -> Int32[Array, "{count} 3"]:
    """Draws operations, bins and signs (0 for +, 1 for -), all uniform."""
    choices = jnp.float32([[len(Operation), bins, 2]])
    return jnp.floor(jax.random.uniform(key, (count, 3)) * choices).astype(jnp.int32)


def apply_operation(
    image: Num[Array, "h w c"], table: OperationTable, choice: Int32[Array, "3"]
) -> Float32[Array, "h w c"]:
    """Applies one operation, at one magnitude, with one sign.

    The choice has indices into the axes of the table, which is that of the image's
    size. The image is that of :func:`trivial_augment`.
    """
    operation = choice[0]
    matrix, factor, mask, threshold = (
        jnp.asarray(column)[tuple(choice)] for column in table
    )
    coordinates = geometry.affine(geometry.identity(*image.shape[:2]), matrix)
    moved = geometry.sample(image, coordinates).astype(jnp.float32)
    whole = jnp.round(moved)

    grey = pillow_ops.grayscale(whole)
    mean = jnp.floor(grey.mean(keepdims=True) + 0.5)
    other = jnp.where(operation == Operation.CONTRAST, mean, 0.0)
    other = jnp.where(operation == Operation.COLOR, grey, other)
    smooth = pillow_ops.smooth(whole)
    other = jnp.where(operation == Operation.SHARPNESS, smooth, other)
    blended = pillow_ops.blend(other, whole, factor)

    pixels = whole.astype(jnp.int32)
    counts = pillow_ops.histogram(pixels)
    value = jax.lax.broadcasted_iota(jnp.int32, counts.shape, 0)
    new = jnp.where(value < threshold, value & mask, 255 - value)
    stretched, equalized = pillow_ops.autocontrast(counts), pillow_ops.equalize(counts)
    new = jnp.where(operation == Operation.AUTOCONTRAST, stretched, new)
    new = jnp.where(operation == Operation.EQUALIZE, equalized, new)
    replaced = pillow_ops.look_up(new, pixels).astype(jnp.float32)

    is_blend = (operation >= Operation.BRIGHTNESS) & (operation < Operation.POSTERIZE)
    result = jnp.where(is_blend, blended, moved)
    return jnp.where(operation >= Operation.POSTERIZE, replaced, result)


def _make_table(height: int, width: int, bins: int, ranges: _Ranges) -> OperationTable:
    shape = (len(Operation), bins, 2)
    factor = np.ones(shape)
    factor[Operation.BRIGHTNESS : Operation.POSTERIZE] += _up_to(ranges.blend, bins)
    dropped = np.arange(bins, dtype=np.float32) / np.float32((bins - 1) / ranges.bits)
    mask = np.full(shape, 255)
    mask[Operation.POSTERIZE] &= -1 << dropped.round().astype(int)[:, None]
    threshold = np.full(shape, 256)
    threshold[Operation.SOLARIZE] = np.ceil(_up_to(255.0, bins)[::-1, :1])
    return OperationTable(
        matrix=_make_matrices(height, width, bins, ranges),
        factor=factor.astype(np.float32),
        mask=mask.astype(np.int32),
        threshold=threshold.astype(np.int32),
    )


def _make_matrices(height: int, width: int, bins: int, ranges: _Ranges) -> np.ndarray:
    # From output to input, as in Pillow's Image.transform.
    matrix = np.zeros((len(Operation), bins, 2, 6))
    matrix[..., [0, 4]] = 1
    matrix[Operation.SHEAR_X, ..., 1] = _up_to(ranges.shear, bins)
    matrix[Operation.SHEAR_Y, ..., 3] = _up_to(ranges.shear, bins)
    right, down = (np.trunc(_up_to(pixels, bins)) for pixels in ranges.translate)
    matrix[Operation.TRANSLATE_X, ..., 2] = -right
    matrix[Operation.TRANSLATE_Y, ..., 5] = -down
    matrix[Operation.ROTATE] = _rotation(_up_to(ranges.degrees, bins), height, width)
    # Pillow samples at the centres of pixels, and rounds half up to its fixed point.
    matrix[..., 2] += matrix[..., 0] * 0.5 + matrix[..., 1] * 0.5
    matrix[..., 5] += matrix[..., 3] * 0.5 + matrix[..., 4] * 0.5
    return np.floor(matrix * 65536 + 0.5).astype(np.int32)


def _rotation(degrees: np.ndarray, height: int, width: int) -> np.ndarray:
    """Returns the matrices of Pillow's ``Image.rotate``, as a new last axis."""
    angle = -np.radians(degrees % 360)
    cosine, sine = np.cos(angle).round(15), np.sin(angle).round(15)
    x, y = width / 2, height / 2
    right = -x * cosine - y * sine + x
    down = x * sine - y * cosine + y
    return np.stack([cosine, sine, right, -sine, cosine, down], axis=-1)


def _up_to(greatest: float, bins: int) -> np.ndarray:
    """Returns the magnitudes ``[bins, 2]`` of both signs."""
    # In float32, like torch.linspace. The last digit of that depends on the processor:
    # where it makes 15.999999 of 16, torchvision translates by 15 pixels.
    magnitudes = np.linspace(0, greatest, bins, dtype=np.float32)
    return magnitudes[:, None].astype(np.float64) * [1, -1]
