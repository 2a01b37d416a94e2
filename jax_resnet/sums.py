"""What is summed over the images of training and evaluation, on the device."""

import dataclasses

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float, Int

from jax_resnet.state import Leaf


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Sums:
    """Sums over images; divided once, at the end, they are exact means.

    Attributes:
        loss: sum of the cross-entropy losses, in nats; a float32 scalar. The others
            are int32 scalars.
        top1: number of images whose label is the most probable class.
        top5: number of images whose label is among the five most probable.
        count: number of images.
        bad_step: the first training step whose loss was not finite, or -1.
    """

    loss: Leaf
    top1: Leaf
    top5: Leaf
    count: Leaf
    bad_step: Leaf

    @classmethod
    def zeros(cls) -> "Sums":
        """The empty sums, each in a buffer of its own so that it can be donated."""
        top1, top5, count = (jnp.zeros((), jnp.int32) for _ in range(3))
        return cls(jnp.zeros(()), top1, top5, count, jnp.full((), -1, jnp.int32))

    def total(self, axis_name: str) -> "Sums":
        """The sums over the devices along an axis of the mesh."""
        parts = (self.loss, self.top1, self.top5, self.count)
        loss, top1, top5, count = lax.psum(parts, axis_name)
        return Sums(loss, top1, top5, count, lax.pmax(self.bad_step, axis_name))

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(
            loss=self.loss + other.loss,
            top1=self.top1 + other.top1,
            top5=self.top5 + other.top5,
            count=self.count + other.count,
            bad_step=jnp.maximum(self.bad_step, other.bad_step),
        )


def sum_metrics(
    logits: Float[Array, "b classes"], labels: Int[Array, " b"]
) -> tuple[Float[Array, " b"], Sums]:
    """The losses of a batch, and its sums; a label of -1 marks padding.

    Of classes with equal logits the lower index ranks first, as with ``argmax``.
    An image whose loss is not finite is never counted as right.
    """
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    own = jnp.take_along_axis(logits, labels[:, None], axis=-1)
    lower = jnp.arange(logits.shape[-1])[None, :] < labels[:, None]
    rank = jnp.sum((logits > own) | ((logits == own) & lower), axis=-1)
    real = labels >= 0
    right = real & jnp.isfinite(losses)
    sums = Sums(
        loss=jnp.sum(jnp.where(real, losses, 0.0)),
        top1=jnp.sum(right & (rank < 1), dtype=jnp.int32),
        top5=jnp.sum(right & (rank < 5), dtype=jnp.int32),
        count=jnp.sum(real, dtype=jnp.int32),
        bad_step=jnp.int32(-1),
    )
    return losses, sums
