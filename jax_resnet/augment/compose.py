"""Random augmentations, drawn per image on the device, and their composition.

Every augmentation is a pure function ``(key, image, *, ...) -> image`` of one image,
for use under ``jax.vmap`` and ``jax.jit``, that draws few numbers per image and none
per pixel. :func:`build` composes them from a recipe, a list of their names.

Images hold levels from 0 to 255, as uint8 or float32, until :func:`normalize`.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float32, Int32, Key, Num, UInt8

from jax_resnet.augment import geometry
from jax_resnet.augment.auto_augment import rand_augment, trivial_augment
from jax_resnet.augment.erasing import cutout, random_erasing
from jax_resnet.augment.validation import check_name, check_order, checked

# Of keys, images and the epoch; see :func:`build`.
Augment = Callable[..., Float32[Array, "b h w c"]]


def build(
    recipe: Sequence[str],
    settings: Mapping[str, Mapping[str, Any]],
    *,
    mean: Sequence[float],
    std: Sequence[float],
) -> Augment:
    """Composes augmentations into one function of a batch.

    Neighbouring ``random_crop``, ``random_flip`` and ``random_rotation`` become one
    gather, which gives the same pixels as one after the other.

    Args:
      recipe: Names in the order of application: any of ``random_crop``,
        ``random_flip``, ``alternating_flip``, ``random_rotation``, ``color_jitter``,
        ``trivial_augment``, ``rand_augment``, then ``normalize`` once, then any of
        ``random_erasing``, ``cutout``.
      settings: The keyword arguments of each, by its name.
      mean: Per channel, of the data set's images scaled to [0, 1].
      std: Likewise.

    Returns:
      A deterministic function of typed PRNG keys ``[b]``, uint8 images
      ``[b, h, w, c]`` and the number of the epoch, that returns normalised float32
      images of that shape. Each depends on its own key, itself and the epoch alone;
      the key is split into one for each name of the recipe.

    Raises:
      UserError: A name or setting is unknown, missing or out of range, or
        ``normalize`` is not where it must be.
    """
    check_order(recipe, before=[*_MAPS, *_BEFORE], after=list(_AFTER))
    for name in settings:
        check_name(name, [*_MAPS, *_BEFORE, *_AFTER])
    filters = _BEFORE | _AFTER
    filters["normalize"] = lambda _, image: normalize(image, mean, std)
    chosen = {
        name: checked(name, _MAPS.get(name) or filters[name], settings.get(name, {}))
        for name in [*recipe, *settings]
    }

    def augment_one(
        key: Key[Array, ""], image: UInt8[Array, "h w c"], epoch: Int32[Array, ""]
    ) -> Array:
        turned = is_turned(image, epoch)
        steps = zip(recipe, jax.random.split(key, len(recipe)), strict=True)
        for is_map, group in itertools.groupby(steps, lambda step: step[0] in _MAPS):
            if is_map:
                coordinates = geometry.identity(*image.shape[:2])
                for name, step_key in reversed(list(group)):
                    draw = turned if name == "alternating_flip" else step_key
                    coordinates = _MAPS[name](draw, coordinates, **chosen[name])
                image = geometry.sample(image, coordinates)
            else:
                for name, step_key in group:
                    image = filters[name](step_key, image, **chosen[name])
        return image

    def augment_all(
        keys: Key[Array, " b"],
        images: UInt8[Array, "b h w c"],
        epoch: Int32[Array, ""] | int = 0,
    ) -> Float32[Array, "b h w c"]:
        return jax.vmap(augment_one, in_axes=(0, 0, None))(
            keys, images, jnp.int32(epoch)
        )

    return augment_all


def normalize(
    images: Num[Array, "*b h w c"], mean: Sequence[float], std: Sequence[float]
) -> Float32[Array, "*b h w c"]:
    """Scales levels to [0, 1], subtracts the mean and divides by the deviation.

    Args:
      images: One image or a batch of them.
      mean: One number per channel.
      std: Likewise.
    """
    shape = (1,) * (images.ndim - 1) + (images.shape[-1],)
    centre = np.asarray(mean, np.float32).reshape(shape)
    scale = np.asarray(std, np.float32).reshape(shape)
    return (images.astype(jnp.float32) / 255 - centre) / scale


def random_crop(
    key: Key[Array, ""], image: Num[Array, "h w c"], *, padding: int
) -> Num[Array, "h w c"]:
    """Pads with black and crops to the old size at a uniform offset.

    Args:
      key: Typed PRNG key.
      image: Of any dtype.
      padding: Pixels on each side; offsets are 0 to twice this, on each axis.
    """
    coordinates = geometry.identity(*image.shape[:2])
    coordinates = geometry.random_crop(key, coordinates, padding=padding)
    return geometry.sample(image, coordinates)


def random_flip(
    key: Key[Array, ""], image: Num[Array, "h w c"], *, probability: float
) -> Num[Array, "h w c"]:
    """Swaps left and right with the given probability."""
    coordinates = geometry.identity(*image.shape[:2])
    coordinates = geometry.random_flip(key, coordinates, probability=probability)
    return geometry.sample(image, coordinates)


def alternating_flip(
    image: UInt8[Array, "h w c"], epoch: Int32[Array, ""]
) -> UInt8[Array, "h w c"]:
    """Swaps left and right in every second epoch, and shows both ways equally often.

    Of Jordan 2024, "94% on CIFAR-10 in 3.29 seconds",
    https://arxiv.org/abs/2404.00498, section 3.6. Which way an image is in the first
    epoch follows from its pixels there, not from a draw.

    Args:
      image: As the data set has it.
      epoch: From 0 on.
    """
    coordinates = geometry.identity(*image.shape[:2])
    coordinates = geometry.mirror(coordinates, is_turned(image, epoch))
    return geometry.sample(image, coordinates)


def is_turned(image: UInt8[Array, "h w c"], epoch: Int32[Array, ""]) -> Bool[Array, ""]:
    """Whether :func:`alternating_flip` turns the image in this epoch."""
    return (image.astype(jnp.int32).sum() + epoch) % 2 == 1


def random_rotation(
    key: Key[Array, ""], image: Num[Array, "h w c"], *, degrees: float
) -> Num[Array, "h w c"]:
    """Rotates about the centre by an angle uniform in [-degrees, degrees).

    Nearest neighbour, black outside; the pixels are Pillow's, for which see
    :func:`jax_resnet.augment.geometry.rotate`.
    """
    coordinates = geometry.identity(*image.shape[:2])
    coordinates = geometry.random_rotation(key, coordinates, degrees=degrees)
    return geometry.sample(image, coordinates)


def brightness(
    image: Num[Array, "h w c"], factor: Float32[Array, ""]
) -> Float32[Array, "h w c"]:
    """Blends with black: 0 is black, 1 the image, more is brighter. Clips."""
    return _blend(jnp.zeros((1, 1, 1)), image, factor)


def contrast(
    image: Num[Array, "h w c"], factor: Float32[Array, ""]
) -> Float32[Array, "h w c"]:
    """Blends with the image's mean grey level, as :func:`brightness` does."""
    return _blend(luma(image).mean(keepdims=True), image, factor)


def saturation(
    image: Num[Array, "h w c"], factor: Float32[Array, ""]
) -> Float32[Array, "h w c"]:
    """Blends with each pixel's grey level; leaves grey images as they are."""
    return _blend(luma(image), image, factor)


def luma(image: Num[Array, "h w c"]) -> Float32[Array, "h w 1"]:
    """Returns the grey level of each pixel (ITU-R BT.601) of one or three channels."""
    levels = image.astype(jnp.float32)
    if image.shape[-1] == 1:
        return levels
    red, green, blue = jnp.split(levels, 3, axis=-1)
    return 0.299 * red + 0.587 * green + 0.114 * blue


def color_jitter(
    key: Key[Array, ""],
    image: Num[Array, "h w c"],
    *,
    brightness: float,
    contrast: float,
    saturation: float,
) -> Float32[Array, "h w c"]:
    """Changes brightness, contrast and saturation, in an order drawn per image.

    The three functions of this module with these names, each with a factor uniform
    in [1 - setting, 1 + setting). The result is not rounded to whole levels.
    """
    factors, order = draw_jitter(key, jnp.float32([brightness, contrast, saturation]))
    levels = image.astype(jnp.float32)
    # One blend a round, of a degenerate image chosen by value: under vmap a switch
    # would run all three branches.
    for which in order:
        grey = luma(levels)
        mean = jnp.where(which == 1, grey.mean(), 0.0)
        degenerate = jnp.where(which == 2, grey, mean)
        levels = _blend(degenerate, levels, factors[which])
    return levels


def draw_jitter(
    key: Key[Array, ""], amounts: Float32[Array, "3"]
) -> tuple[Float32[Array, "3"], Int32[Array, "3"]]:
    """Draws factors uniform in 1 -+ amount, and an order of the three blends."""
    draws = jax.random.uniform(key, (4,))
    orders = jnp.int32(list(itertools.permutations(range(3))))
    order = orders[(draws[3] * 6).astype(jnp.int32)]
    return 1 + amounts * (2 * draws[:3] - 1), order


def _blend(
    degenerate: Float32[Array, "_ _ _"],
    image: Num[Array, "h w c"],
    factor: Float32[Array, ""],
) -> Float32[Array, "h w c"]:
    levels = image.astype(jnp.float32)
    return jnp.clip(degenerate + factor * (levels - degenerate), 0, 255)


_MAPS: dict[str, Callable[..., geometry.Coordinates]] = {
    "random_crop": geometry.random_crop,
    "random_flip": geometry.random_flip,
    "alternating_flip": lambda turned, coordinates: geometry.mirror(
        coordinates, turned
    ),
    "random_rotation": geometry.random_rotation,
}
_Filters = dict[str, Callable[..., Array]]
_BEFORE: _Filters = {
    "color_jitter": color_jitter,
    "trivial_augment": trivial_augment,
    "rand_augment": rand_augment,
}
_AFTER: _Filters = {"random_erasing": random_erasing, "cutout": cutout}
