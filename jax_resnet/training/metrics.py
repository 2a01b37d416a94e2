"""Metrics, summed on the device and divided once at the end."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Float, Int

from jax_resnet.model.weights import Leaf


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RunningMetrics:
    """Sums over images, so that their quotients are exact means."""

    # sum of the losses in nats, a float32 scalar. The others are int32 scalars.
    loss: Leaf
    top1: Leaf  # number of images whose label is the most probable class
    top5: Leaf  # number of images whose label is among the five most probable
    count: Leaf  # number of images
    bad_step: Leaf  # the first training step whose loss was not finite, or -1

    @classmethod
    def zeros(cls) -> "RunningMetrics":
        """Returns the metrics of no images, in host memory."""
        top1, top5, count, bad_step = (np.full((), n, np.int32) for n in (0, 0, 0, -1))
        return cls(np.zeros((), np.float32), top1, top5, count, bad_step)

    def over_devices(self, axis_name: str) -> "RunningMetrics":
        """Sums the metrics of all devices along an axis of the mesh."""
        return dataclasses.replace(lax.psum(self, axis_name), bad_step=self.bad_step)

    def __add__(self, other: "RunningMetrics") -> "RunningMetrics":
        total = jax.tree.map(jnp.add, self, other)
        bad_step = jnp.maximum(self.bad_step, other.bad_step)
        return dataclasses.replace(total, bad_step=bad_step)

    def plus_step(self, found: "RunningMetrics", step: Leaf) -> "RunningMetrics":
        """Adds the metrics of a training step, by its number from 1 on."""
        first_bad = (self.bad_step < 0) & ~jnp.isfinite(found.loss)
        bad_step = jnp.where(first_bad, step, self.bad_step)
        return dataclasses.replace(self + found, bad_step=bad_step)

    @property
    def mean_loss(self) -> float:
        """The mean loss of an image in nats."""
        return float(self.loss) / max(int(self.count), 1)

    def accuracy(self, k: int) -> float:
        """Returns the top-1 or top-5 accuracy, in [0, 1]."""
        return int({1: self.top1, 5: self.top5}[k]) / max(int(self.count), 1)


def batch_metrics(
    logits: Float[Array, "b classes"], labels: Int[Array, " b"]
) -> tuple[Float[Array, " b"], RunningMetrics]:
    """Returns the cross-entropy of each image, and the metrics of the batch.

    A label of -1 marks padding. Of classes with equal logits the lower index ranks
    first, as with ``argmax``. An image whose loss is not finite never counts as right.
    """
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    own = jnp.take_along_axis(logits, labels[:, None], axis=-1)
    lower = jnp.arange(logits.shape[-1])[None, :] < labels[:, None]
    rank = jnp.sum((logits > own) | ((logits == own) & lower), axis=-1)
    real = labels >= 0
    right = real & jnp.isfinite(losses)
    metrics = RunningMetrics(
        loss=jnp.sum(jnp.where(real, losses, 0.0)),
        top1=jnp.sum(right & (rank < 1), dtype=jnp.int32),
        top5=jnp.sum(right & (rank < 5), dtype=jnp.int32),
        count=jnp.sum(real, dtype=jnp.int32),
        bad_step=jnp.int32(-1),
    )
    return losses, metrics
