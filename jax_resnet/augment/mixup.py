"""Mixup and CutMix: images and labels of a batch, blended in pairs.

Images 2i and 2i+1 of a batch are a pair. As the batch is in random order, that is as
good as drawing partners, and a pair stays together however many devices share the
batch. Each image of a pair becomes a blend, ``w * own + (1 - w) * other``, with weights
``w`` per pixel: one number for mixup, 0 or 1 for CutMix. The label has the share that
the weights have on average.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, Key
from scipy import stats

from jax_resnet.augment import geometry
from jax_resnet.runtime.errors import UserError

Mix = Callable[
    [Key[Array, " b"], Float32[Array, "b h w c"]],
    tuple[Float32[Array, "b h w c"], Float32[Array, " b"]],
]
_QUANTILES = 4096


def make_mix(
    *, mixup: float = 0.0, cutmix: float = 0.0, probability: float = 1.0
) -> Mix | None:
    """The function that mixes a batch; None where nothing is to be mixed.

    With both, each pair gets one of them, by an even chance.

    Args:
        mixup: alpha of mixup (Zhang et al. 2017, https://arxiv.org/abs/1710.09412,
            section 2); 0 for none.
        cutmix: alpha of CutMix (Yun et al. 2019, https://arxiv.org/abs/1905.04899,
            section 3.1); 0 for none.
        probability: that a pair is mixed at all.

    Returns:
        A function of typed PRNG keys ``[b]``, of which each pair's first counts, and
        normalised images ``[b, h, w, c]``, b even. It returns the mixed images, and
        the share ``[b]`` that each image's own label has in it.

    Raises:
        UserError: for a value out of range.
    """
    for name, alpha in (("mixup", mixup), ("cutmix", cutmix)):
        if not 0 <= alpha <= 100:
            raise UserError(f"mix.{name} must be from 0 to 100, and is {alpha}")
    if not 0 <= probability <= 1:
        raise UserError(f"mix.probability must be in [0, 1], and is {probability}")
    if not probability or not (mixup or cutmix):
        return None
    mixup_share = 0.5 if mixup and cutmix else float(mixup > 0)

    def weights(key: Key[Array, ""], shape: tuple[int, int]) -> Float32[Array, "h w"]:
        draws = jax.random.uniform(key, (5,))
        whole = jnp.ones(shape)
        blended = boxed = whole
        if mixup:
            blended = whole * beta_quantile(draws[2], mixup)
        if cutmix:
            boxed = outside_box(beta_quantile(draws[2], cutmix), draws[3:], shape)
        mixed = jnp.where(draws[1] < mixup_share, blended, boxed)
        return jnp.where(draws[0] < probability, mixed, whole)

    def mix(
        keys: Key[Array, " b"], images: Float32[Array, "b h w c"]
    ) -> tuple[Float32[Array, "b h w c"], Float32[Array, " b"]]:
        _, height, width, _ = images.shape
        own = jax.vmap(lambda key: weights(key, (height, width)))(keys[::2])
        own = jnp.repeat(own, 2, axis=0)
        w = own[..., None]
        return w * images + (1 - w) * partners(images), own.mean(axis=(1, 2))

    return mix


def partners(batch: Array) -> Array:
    """The other one of each pair, for images or labels."""
    return batch.reshape(-1, 2, *batch.shape[1:])[:, ::-1].reshape(batch.shape)


def beta_quantile(u: Float32[Array, ""], alpha: float) -> Float32[Array, ""]:
    """A draw from Beta(alpha, alpha) made of one that is uniform in [0, 1).

    It is one of 4,096 quantiles: rejection sampling would loop in each step.
    """
    middles = (np.arange(_QUANTILES) + 0.5) / _QUANTILES
    table = stats.beta.ppf(middles, alpha, alpha).astype(np.float32)
    return jnp.asarray(table)[(u * _QUANTILES).astype(jnp.int32)]


def outside_box(
    share: Float32[Array, ""], centre: Float32[Array, "2"], shape: tuple[int, int]
) -> Float32[Array, "h w"]:
    """1 outside a box and 0 in it.

    Args:
        share: of the image outside the box, as far as the border does not cut it.
        centre: of the box in fractions of the height and the width.
        shape: height and width of the image in pixels.
    """
    limits = jnp.float32(shape)
    side = (limits * jnp.sqrt(1 - share)).astype(jnp.int32)
    first = (centre * limits).astype(jnp.int32) - side // 2
    row, column, _ = geometry.identity(*shape)
    past = first + 2 * (side // 2)
    rows = (row >= first[0]) & (row < past[0])
    columns = (column >= first[1]) & (column < past[1])
    return jnp.where(rows & columns, 0.0, 1.0)
