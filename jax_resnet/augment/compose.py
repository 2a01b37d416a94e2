"""Composes random augmentations, drawn per image on the device.

An augmentation is a pure function ``(key, image, *, ...) -> image`` of one image, or
``(key, coordinates, *, ...) -> coordinates`` in :mod:`jax_resnet.augment.geometry`.
It draws few numbers per image and none per pixel. Images have pixel values from 0 to
255, as uint8 or float32, until they are normalised.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float32, Int32, Key, UInt8

from jax_resnet.augment import geometry
from jax_resnet.augment.auto_augment import rand_augment, trivial_augment
from jax_resnet.augment.color import color_jitter, normalize
from jax_resnet.augment.erasing import cutout, random_erasing
from jax_resnet.config import Transform, check_augmentations
from jax_resnet.runtime.errors import UserError

# Takes keys, images and the epoch; see :func:`build`.
Augment = Callable[..., Float32[Array, "b h w c"]]
_Function = Callable[..., Any]
# These know the grey of a colour.
_FOR_GREY_AND_RGB = {"color_jitter", "trivial_augment", "rand_augment"}

_MAPS: dict[str, _Function] = {  # of coordinates
    "random_crop": geometry.random_crop,
    "random_flip": geometry.random_flip,
    "alternating_flip": geometry.mirror,
    "random_rotation": geometry.random_rotation,
}
# Their settings and places are in jax_resnet/config/augmentations.py.
_FUNCTIONS: dict[str, _Function] = {
    **_MAPS,
    "color_jitter": color_jitter,
    "trivial_augment": trivial_augment,
    "rand_augment": rand_augment,
    "random_erasing": random_erasing,
    "cutout": cutout,
}


def build(
    transforms: Sequence[Transform],
    settings: Mapping[str, Mapping[str, Any]],
    *,
    mean: Sequence[float],
    std: Sequence[float],
) -> Augment:
    """Composes augmentations into one function of a batch.

    Neighbouring ``random_crop``, ``random_flip``, ``alternating_flip`` and
    ``random_rotation`` become one gather, with the same pixels as one after the other.

    Args:
      transforms: Names in the order of application: any of ``random_crop``,
        ``random_flip``, ``alternating_flip``, ``random_rotation``, ``color_jitter``,
        ``trivial_augment``, ``rand_augment``, then ``normalize`` once, then any of
        ``random_erasing``, ``cutout``. A function of your own, ``(key, image,
        **settings) -> image``, may stand anywhere. It takes and returns a float32 image
        ``[h, w, c]``, whose values are from 0 to 255 before ``normalize``.
      settings: The keyword arguments of each augmentation, by its name.
      mean: Mean of each channel, for pixel values in [0, 1].
      std: Standard deviation of each channel, for pixel values in [0, 1].

    Returns:
      A deterministic function of typed PRNG keys ``[b]``, uint8 images
      ``[b, h, w, c]`` and the epoch from 0. It returns normalised float32 images,
      each of which depends on its own key, its own pixels and the epoch alone.

    Raises:
      UserError: A name or setting is wrong, ``normalize`` is not where it must be, or
        an augmentation of colours is for other channels than these.
        When it is traced, also if a function of your own fails or changes the shape.
    """
    chosen = _functions(transforms, check_augmentations(transforms, settings))
    for name in sorted(_FOR_GREY_AND_RGB & chosen.keys()):
        if len(mean) not in (1, 3):
            raise UserError(
                f"augment.transforms: {name!r} is for grey and RGB images, and these "
                f"have {len(mean)} channels: leave it out"
            )
    chosen["normalize"] = lambda key, image: normalize(image, mean, std)
    named = [(name, chosen[name]) for name in map(_name, transforms)]

    def augment(
        keys: Key[Array, " b"],
        images: UInt8[Array, "b h w c"],
        epoch: Int32[Array, ""] | int = 0,
    ) -> Float32[Array, "b h w c"]:
        in_axes = (0, 0, None)
        augment_images = jax.vmap(partial(_augment_image, named), in_axes=in_axes)
        return augment_images(keys, images, jnp.int32(epoch))

    return augment


def _name(transform: Transform) -> str:
    return transform.__name__ if callable(transform) else transform


def _functions(
    transforms: Sequence[Transform], settings: Mapping[str, Mapping[str, Any]]
) -> dict[str, _Function]:
    """Returns the function of each transform, with its settings, by name."""
    middle = transforms.index("normalize")
    functions: dict[str, _Function] = {}
    for place, transform in enumerate(transforms):
        name = _name(transform)
        if callable(transform):
            highest = 255 if place < middle else None
            own = partial(_apply_own, transform, settings[name], highest)
            functions[name] = own
        elif name != "normalize":
            functions[name] = partial(_FUNCTIONS[name], **settings[name])
    return functions


def _apply_own(
    function: _Function,
    settings: Mapping[str, Any],
    highest: int | None,
    key: Key[Array, ""],
    image: Array,
) -> Float32[Array, "h w c"]:
    """Applies a function of the user, whose errors become one line.

    The result is clipped to values from 0 to ``highest``, unless that is None.
    """
    name = function.__name__
    try:
        result = function(key, image.astype(jnp.float32), **settings)
        result = jnp.asarray(result, jnp.float32)
    except Exception as error:
        text = (str(error).splitlines() or [""])[0]
        raise UserError(
            f"augmentation {name!r} fails: {type(error).__name__}: {text}"
        ) from error
    if result.shape != image.shape:
        raise UserError(
            f"augmentation {name!r} returns the shape {result.shape}: it must keep "
            f"that of the image, {image.shape}"
        )
    return result if highest is None else result.clip(0, highest)


def _augment_image(
    transforms: Sequence[tuple[str, _Function]],
    key: Key[Array, ""],
    image: UInt8[Array, "h w c"],
    epoch: Int32[Array, ""],
) -> Float32[Array, "h w c"]:
    mirrored = is_mirrored(image, epoch)
    keys = jax.random.split(key, len(transforms))
    keyed = zip(transforms, keys, strict=True)
    for are_maps, group in itertools.groupby(keyed, lambda item: item[0][0] in _MAPS):
        if not are_maps:
            for (_, function), one_key in group:
                image = function(one_key, image)
            continue
        coordinates = geometry.identity(*image.shape[:2])
        for (name, function), one_key in reversed(list(group)):
            if name == "alternating_flip":
                coordinates = geometry.mirror(coordinates, mirrored)
            else:
                coordinates = function(one_key, coordinates)
        image = geometry.sample(image, coordinates)
    return image


def is_mirrored(
    image: UInt8[Array, "h w c"], epoch: Int32[Array, ""]
) -> Bool[Array, ""]:
    """Returns whether ``alternating_flip`` mirrors an image in this epoch.

    It mirrors each image in every second epoch (Jordan 2024, "94% on CIFAR-10 in 3.29
    seconds", https://arxiv.org/abs/2404.00498, section 3.6). The pixels of the image,
    not a key, decide whether it begins in the first epoch or in the second.
    """
    return (image.astype(jnp.int32).sum() + epoch) % 2 == 1
