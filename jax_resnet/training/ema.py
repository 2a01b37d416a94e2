"""The exponential moving average of the weights, and its BatchNorm statistics."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp

from jax_resnet.model.resnet import BATCH_NORM_MOMENTUM
from jax_resnet.model.weights import Arrays, Leaf, Weights


@dataclass(frozen=True)
class Ema:
    """Options of the average."""

    decay: float  # fraction of the average that a step keeps; 0 turns the average off
    statistics_steps: int = 1  # batches that give the average its BatchNorm statistics

    def update(self, average: Weights, params: Arrays, step: Leaf) -> Weights:
        """Returns the average after one more step, with its statistics as they were.

        Polyak, Juditsky 1992, in the exponential form: ``decay * average + (1 - decay)
        * params``. In the first steps the decay is no more than ``(1 + step) / (10 +
        step)``, so that the random start is soon forgotten. ``step`` counts the steps
        before this one.
        """
        count = jnp.asarray(step, jnp.float32)
        weight = 1 - jnp.minimum(self.decay, (1 + count) / (10 + count))
        moved = jax.tree.map(
            lambda old, new: old + weight * (new - old), average.params, params
        )
        return replace(average, params=moved)


def zero_statistics(batch_stats: Arrays) -> Arrays:
    """Statistics of zero, from which those of a single batch are taken."""
    return jax.tree.map(jnp.zeros_like, batch_stats)


def mean_statistics(total: Arrays, batches: int) -> Arrays:
    """Returns BatchNorm statistics over many batches, as exact means.

    Precise BatchNorm (Wu, Johnson 2021, https://arxiv.org/abs/2105.07576, section 3.2).
    The running update is linear: from zeros, one batch leaves ``1 - momentum`` times
    its own statistics. ``total`` is the sum of these over the batches.
    """
    scale = 1 / ((1 - BATCH_NORM_MOMENTUM) * batches)
    return jax.tree.map(lambda value: value * scale, total)
