"""Random erasing and cutout: set a part of a normalised image to 0, the mean colour."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float32, Int32, Key

from jax_resnet.augment import geometry


def random_erasing(
    key: Key[Array, ""],
    image: Float32[Array, "h w c"],
    *,
    probability: float,
    area: tuple[float, float],
    aspect: tuple[float, float],
    tries: int = 10,
) -> Float32[Array, "h w c"]:
    """Sets a random rectangle to 0 (Zhong et al. 2017, as torchvision draws it).

    The image is normalised, so that 0 is the mean colour.

    Args:
      key: Typed PRNG key.
      image: The normalised image.
      probability: Chance that anything is erased.
      area: Least and greatest fraction of the image's area, uniform between.
      aspect: Least and greatest height / width; the logarithm is uniform between.
      tries: How often area and aspect are drawn. The first rectangle that is smaller
        than the image on both sides is erased; if none is, the image stays whole.
    """
    shape = image.shape[:2]
    return _erase(image, draw_rectangle(key, shape, probability, area, aspect, tries))


def draw_rectangle(
    key: Key[Array, ""],
    shape: Sequence[int],
    probability: float,
    area: tuple[float, float],
    aspect: tuple[float, float],
    tries: int,
) -> Int32[Array, "4"]:
    """Draws top, left, height and width of the rectangle; 0 by 0 erases nothing."""
    draws = jax.random.uniform(key, (2 * tries + 3,))
    target = area[0] + (area[1] - area[0]) * draws[:tries]
    target *= shape[0] * shape[1]
    low, high = math.log(aspect[0]), math.log(aspect[1])
    ratio = jnp.exp(low + (high - low) * draws[tries : 2 * tries])
    sides = jnp.round(jnp.sqrt(jnp.stack([target * ratio, target / ratio], axis=1)))
    limits = jnp.float32(shape)
    fits = (sides < limits[None]).all(axis=1)
    first = jnp.argmax(fits)
    applied = fits[first] & (draws[-1] < probability)
    size = jnp.where(applied, sides[first], 0.0)
    corner = jnp.floor(draws[-3:-1] * (limits - size + 1))
    return jnp.concatenate([corner, size]).astype(jnp.int32)


def cutout(
    key: Key[Array, ""], image: Float32[Array, "h w c"], *, size: int
) -> Float32[Array, "h w c"]:
    """Sets a square to 0, clipped at the border (DeVries and Taylor 2017).

    The image is normalised, so that 0 is the mean colour. The square has sides of
    ``size`` pixels. Its centre, the pixel ``size // 2`` from its corner, is uniform
    over the image.
    """
    limits = jnp.float32(image.shape[:2])
    centre = jnp.floor(jax.random.uniform(key, (2,)) * limits)
    corner = centre.astype(jnp.int32) - size // 2
    return _erase(image, jnp.concatenate([corner, jnp.full(2, size, jnp.int32)]))


def _erase(
    image: Float32[Array, "h w c"], rectangle: Int32[Array, "4"]
) -> Float32[Array, "h w c"]:
    top, left, height, width = rectangle
    row, column, _ = geometry.identity(*image.shape[:2])
    rows = (row >= top) & (row < top + height)
    columns = (column >= left) & (column < left + width)
    return jnp.where((rows & columns)[..., None], 0.0, image)
