"""Mixup and CutMix: blend the images and labels of a batch in pairs.

Images 2i and 2i+1 of a batch are a pair. The batch is in random order, so this is as
good as drawing partners, and a pair is on one device however many share the batch. Each
image of a pair becomes ``w * own + (1 - w) * other``, with weights ``w`` per pixel: one
number for mixup, 0 or 1 for CutMix. The label is blended with their mean.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, Key
from scipy import stats

from jax_resnet.augment import geometry

Mix = Callable[
    [Key[Array, " b"], Float32[Array, "b h w c"]],
    tuple[Float32[Array, "b h w c"], Float32[Array, " b"]],
]
_QUANTILES = 4096


def make_mix(
    *, mixup: float = 0.0, cutmix: float = 0.0, probability: float = 1.0
) -> Mix | None:
    """Returns :func:`mix_pairs` with these options; None if they mix nothing."""
    if not probability or not (mixup or cutmix):
        return None
    return partial(mix_pairs, mixup=mixup, cutmix=cutmix, probability=probability)


def mix_pairs(
    keys: Key[Array, " b"],
    images: Float32[Array, "b h w c"],
    *,
    mixup: float,
    cutmix: float,
    probability: float,
) -> tuple[Float32[Array, "b h w c"], Float32[Array, " b"]]:
    """Blends each pair of images by mixup or CutMix, with equal chance if both are on.

    Args:
      keys: Typed PRNG keys; the first of each pair is used.
      images: Normalised images, an even number.
      mixup: alpha of mixup (Zhang et al. 2017, https://arxiv.org/abs/1710.09412,
        section 2); 0 turns it off.
      cutmix: alpha of CutMix (Yun et al. 2019, https://arxiv.org/abs/1905.04899,
        section 3.1); 0 turns it off.
      probability: Chance that a pair is mixed at all.

    Returns:
      The mixed images, and the weight of each image's own label.
    """
    _, height, width, _ = images.shape
    shape = height, width
    mixup_share = 0.5 if mixup and cutmix else float(mixup > 0)

    def draw_weights(key: Key[Array, ""]) -> Float32[Array, "h w"]:
        draws = jax.random.uniform(key, (5,))
        whole = jnp.ones(shape)
        blended = boxed = whole
        if mixup:
            blended = whole * beta_quantile(draws[2], mixup)
        if cutmix:
            boxed = outside_box(beta_quantile(draws[2], cutmix), draws[3:], shape)
        mixed = jnp.where(draws[1] < mixup_share, blended, boxed)
        return jnp.where(draws[0] < probability, mixed, whole)

    weights = jnp.repeat(jax.vmap(draw_weights)(keys[::2]), 2, axis=0)
    w = weights[..., None]
    return w * images + (1 - w) * partners(images), weights.mean(axis=(1, 2))


def partners(batch: Array) -> Array:
    """Swaps the two images or labels of each pair."""
    return batch.reshape(-1, 2, *batch.shape[1:])[:, ::-1].reshape(batch.shape)


def beta_quantile(u: Float32[Array, ""], alpha: float) -> Float32[Array, ""]:
    """Turns a uniform draw from [0, 1) into one from Beta(alpha, alpha).

    Looks up one of 4,096 quantiles: rejection sampling would loop in each step.
    """
    middles = (np.arange(_QUANTILES) + 0.5) / _QUANTILES
    table = stats.beta.ppf(middles, alpha, alpha).astype(np.float32)
    return jnp.asarray(table)[(u * _QUANTILES).astype(jnp.int32)]


def outside_box(
    share: Float32[Array, ""], centre: Float32[Array, "2"], shape: tuple[int, int]
) -> Float32[Array, "h w"]:
    """Returns CutMix's mask: 0 in a box and 1 outside it.

    The share is the fraction of the image outside a box that the border does not cut.
    The centre is in fractions of height and width, the shape in pixels.
    """
    limits = jnp.float32(shape)
    side = (limits * jnp.sqrt(1 - share)).astype(jnp.int32)
    first = (centre * limits).astype(jnp.int32) - side // 2
    row, column, _ = geometry.identity(*shape)
    past = first + 2 * (side // 2)
    rows = (row >= first[0]) & (row < past[0])
    columns = (column >= first[1]) & (column < past[1])
    return jnp.where(rows & columns, 0.0, 1.0)
