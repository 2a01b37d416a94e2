"""What training minimises: the loss of a batch as the model gets to see it."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float, Float32, Int, Key, UInt8

from jax_resnet.augment import Augment
from jax_resnet.errors import UserError
from jax_resnet.geometry import resize
from jax_resnet.mixing import Mix, partners
from jax_resnet.model import ResNet
from jax_resnet.state import Arrays, merge, split
from jax_resnet.sums import Sums, sum_metrics

# An image's key gives others by these numbers, which no augmentation counts up to.
_MIX, _DROP = 2**30, 2**30 + 1

Seen = dict[str, Array]


@dataclass(frozen=True)
class Teacher:
    """A trained model whose outputs are learned, too.

    Knowledge distillation (Hinton, Vinyals, Dean 2015,
    https://arxiv.org/abs/1503.02531, section 2); of a model of the same architecture,
    self-distillation (Furlanello et al. 2018, https://arxiv.org/abs/1805.04770).

    Attributes:
        logits: of normalised images, augmented as the student sees them.
        weight: of the teacher in the loss; labels have the rest.
        temperature: that both models' logits are divided by to compare them.
    """

    logits: Callable[[Array], Array]
    weight: float
    temperature: float

    def __post_init__(self) -> None:
        if not 0 <= self.weight <= 1:
            raise UserError(f"distill.weight must be in [0, 1], and is {self.weight}")
        if not 0.01 <= self.temperature <= 1000:
            raise UserError(
                "distill.temperature must be from 0.01 to 1000, and is "
                f"{self.temperature}"
            )

    def losses(self, logits: Array, taught: Array) -> Float[Array, " b"]:
        """The divergence of each image, scaled so that its gradient keeps its size.

        Args:
            logits: of the student.
            taught: of the teacher.
        """
        student, teacher = (
            jax.nn.log_softmax(each / self.temperature) for each in (logits, taught)
        )
        divergence = jnp.sum(jnp.exp(teacher) * (teacher - student), axis=-1)
        return self.temperature**2 * divergence


@dataclass(frozen=True)
class Objective:
    """The mean loss of a batch.

    Attributes:
        graphdef: of the model.
        augment: what the model gets to see of each image.
        mix: and of each pair of them, if anything else.
        label_smoothing: the part of a label that is spread evenly over all classes
            (Szegedy et al. 2015, https://arxiv.org/abs/1512.00567, section 7).
        stochastic_depth: the chance that the last block is left out for an image;
            that of the others falls linearly to the first. What is left is scaled up,
            so that nothing changes in evaluation (Huang et al. 2016,
            https://arxiv.org/abs/1603.09382, section 3, there for a whole batch).
        teacher: whose outputs are learned beside the labels. It sees images of the
            data set's size.
        image_size: that the augmented images are scaled to, see
            :func:`~jax_resnet.geometry.resize`; None leaves them alone.
    """

    graphdef: nnx.GraphDef[ResNet]
    augment: Augment
    mix: Mix | None = None
    label_smoothing: float = 0.0
    stochastic_depth: float = 0.0
    teacher: Teacher | None = None
    image_size: int | None = None

    def __post_init__(self) -> None:
        for field in ("train.label_smoothing", "model.stochastic_depth"):
            value = getattr(self, field.split(".")[1])
            if not 0 <= value < 1:
                raise UserError(f"{field} must be in [0, 1), and is {value}")

    def see(
        self,
        images: UInt8[Array, "b h w c"],
        labels: Int[Array, " b"],
        keys: Key[Array, " b"],
        epoch: Int[Array, ""],
    ) -> Seen:
        """The batch as the model gets to see it, ``[b, ...]`` each.

        Args:
            images: of the data set.
            labels: likewise.
            keys: of all that is random about each image.
            epoch: that the step is in, from 0 on.
        """
        seen = {"images": self.augment(keys, images, epoch), "labels": labels}
        if self.mix is not None:
            mix_keys = _derived(keys, _MIX)
            seen["images"], seen["share"] = self.mix(mix_keys, seen["images"])
        if self.stochastic_depth:
            seen["keys"] = _derived(keys, _DROP)
        if self.teacher is not None:
            seen["taught"] = self.teacher.logits(seen["images"])
        seen["images"] = resize(seen["images"], self.image_size)
        return seen

    def gradients(
        self, params: Arrays, batch_stats: Arrays, seen: Seen
    ) -> tuple[Arrays, Sums, Arrays]:
        """Gradients of the mean loss, sums of the batch, and the new statistics.

        The sums count the loss that is minimised. An image that was mixed is right
        where its class of the larger share is ranked first.
        """

        def loss_fn(params: Arrays) -> tuple[Array, tuple[Sums, Arrays]]:
            model = merge(self.graphdef, params, batch_stats)
            logits = model(
                seen["images"],
                train=True,
                block_weights=self._block_weights(seen, len(model.blocks)),
            )
            losses, sums = self._losses(logits, seen)
            return losses.mean(), (sums, split(model)[2])

        gradients, (sums, new_stats) = jax.grad(loss_fn, has_aux=True)(params)
        return gradients, sums, new_stats

    def statistics(self, params: Arrays, batch_stats: Arrays, seen: Seen) -> Arrays:
        """BatchNorm's running statistics after the batch was seen."""
        model = merge(self.graphdef, params, batch_stats)
        model(seen["images"], train=True)
        return split(model)[2]

    def _losses(
        self, logits: Float[Array, "b classes"], seen: Seen
    ) -> tuple[Float[Array, " b"], Sums]:
        labels, share = seen["labels"], seen.get("share")
        if share is None:
            losses, sums = sum_metrics(logits, labels)
        else:
            others = partners(labels)
            _, sums = sum_metrics(logits, jnp.where(share < 0.5, others, labels))
            own, other = (_cross_entropy(logits, which) for which in (labels, others))
            losses = share * own + (1 - share) * other
        if self.label_smoothing:
            even = jax.nn.logsumexp(logits, axis=-1) - logits.mean(axis=-1)
            losses += self.label_smoothing * (even - losses)
        if self.teacher is not None:
            divergence = self.teacher.losses(logits, seen["taught"])
            losses += self.teacher.weight * (divergence - losses)
        return losses, dataclasses.replace(sums, loss=losses.sum())

    def _block_weights(self, seen: Seen, blocks: int) -> Float32[Array, "b n"] | None:
        if not self.stochastic_depth:
            return None
        place = np.arange(1, blocks + 1, dtype=np.float32)[None] / blocks
        kept = 1 - np.float32(self.stochastic_depth) * place
        draws = jax.vmap(lambda key: jax.random.uniform(key, (blocks,)))(seen["keys"])
        return jnp.where(draws < kept, 1 / kept, 0.0)


def _cross_entropy(
    logits: Float[Array, "b classes"], labels: Int[Array, " b"]
) -> Float[Array, " b"]:
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def _derived(keys: Key[Array, " b"], number: int) -> Any:
    return jax.vmap(lambda key: jax.random.fold_in(key, number))(keys)
