"""The exponential moving average of the weights, and its BatchNorm statistics."""

import jax
import jax.numpy as jnp

from jax_resnet.errors import UserError
from jax_resnet.model import BATCH_NORM_MOMENTUM
from jax_resnet.state import Arrays, Leaf


def check(decay: float, statistics_steps: int) -> None:
    """Raises a :class:`UserError` for settings out of range."""
    if not 0 <= decay < 1:
        raise UserError(f"ema.decay must be in [0, 1), and is {decay}")
    if statistics_steps < 1:
        raise UserError(
            f"ema.statistics_steps must be at least 1, and is {statistics_steps}"
        )


def update(average: Arrays, params: Arrays, step: Leaf, *, decay: float) -> Arrays:
    """The average with one more step in it.

    Polyak, Juditsky 1992, in the exponential form: ``decay * average +
    (1 - decay) * params``. In the first steps the decay is no more than
    ``(1 + step) / (10 + step)``, so that the random start is soon forgotten.

    Args:
        average: of the steps before.
        params: after this step.
        step: steps taken before this one.
        decay: in [0, 1).
    """
    count = jnp.asarray(step, jnp.float32)
    weight = 1 - jnp.minimum(decay, (1 + count) / (10 + count))
    return jax.tree.map(lambda old, new: old + weight * (new - old), average, params)


def no_statistics(batch_stats: Arrays) -> Arrays:
    """Where sums of statistics begin, and each batch's own."""
    return jax.tree.map(jnp.zeros_like, batch_stats)


def mean_statistics(total: Arrays, batches: int) -> Arrays:
    """The statistics of many batches, as exact means.

    Precise BatchNorm (Wu, Johnson 2021, https://arxiv.org/abs/2105.07576, section
    3.2). The running update is linear: from zeros, one batch leaves ``1 - momentum``
    times its own statistics.

    Args:
        total: sum of what the running statistics become, from zeros, in each batch.
        batches: of the sum.
    """
    scale = 1 / ((1 - BATCH_NORM_MOMENTUM) * batches)
    return jax.tree.map(lambda value: value * scale, total)
