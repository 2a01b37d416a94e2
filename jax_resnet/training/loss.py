"""The loss of a training batch."""

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

from jax_resnet.augment.compose import Augment
from jax_resnet.augment.geometry import resize
from jax_resnet.augment.mixup import Mix, partners
from jax_resnet.model.resnet import ResNet
from jax_resnet.model.weights import Arrays, Leaf, merge, split
from jax_resnet.training.metrics import RunningMetrics, batch_metrics

# An image's key gives others by these numbers, which no augmentation uses.
_MIX, _DROP = 2**30, 2**30 + 1

Batch = dict[str, Array]


@dataclass(frozen=True)
class Teacher:
    """The teacher for knowledge distillation.

    Hinton, Vinyals, Dean 2015, https://arxiv.org/abs/1503.02531, section 2.
    """

    # maps normalised images, augmented as for the student, to logits
    logits: Callable[[Array], Array]
    weight: float  # weight of the teacher in the loss; the labels have the rest
    temperature: float  # divides the logits of both models before they are compared

    def losses(self, logits: Array, teacher_logits: Array) -> Float[Array, " b"]:
        """Returns the Kullback-Leibler divergence from the teacher for each image.

        The squared temperature scales it, so that its gradient keeps its size.
        """
        student, teacher = (
            jax.nn.log_softmax(each / self.temperature)
            for each in (logits, teacher_logits)
        )
        divergence = jnp.sum(jnp.exp(teacher) * (teacher - student), axis=-1)
        return self.temperature**2 * divergence


@dataclass(frozen=True)
class Preprocessing:
    """How uint8 images become inputs of the model."""

    augment: Augment  # augments and normalises each image
    normalize: Callable[[Array], Array]  # normalises each image, as evaluation does
    mix: Mix | None = None  # mixes pairs of augmented images; None leaves them alone
    # side in pixels that the images are scaled to in the end; None keeps their size
    image_size: int | None = None


@dataclass(frozen=True)
class Loss:
    """The mean loss of a batch."""

    graphdef: nnx.GraphDef[ResNet]
    preprocessing: Preprocessing  # how images become inputs
    # the part of a label that is spread evenly over all classes (Szegedy et al. 2015,
    # https://arxiv.org/abs/1512.00567, section 7).
    label_smoothing: float = 0.0
    stochastic_depth: float = 0.0  # drop rate of the last block
    # the teacher for distillation, which sees images of the full size; None trains on
    # the labels alone
    teacher: Teacher | None = None

    def at_size(self, image_size: int | None) -> "Loss":
        """Returns the loss for images of another size; None is the full size."""
        preprocessing = dataclasses.replace(self.preprocessing, image_size=image_size)
        return dataclasses.replace(self, preprocessing=preprocessing)

    def prepare_batch(
        self,
        images: UInt8[Array, "b h w c"],
        labels: Int[Array, " b"],
        keys: Key[Array, " b"],
        epoch: Int[Leaf, ""],
    ) -> Batch:
        """Augments a batch, and adds to it what the loss needs, ``[b, ...]`` each.

        The keys drive all that is random about each image; the epoch counts from 0.
        """
        preprocessing = self.preprocessing
        batch = {"images": preprocessing.augment(keys, images, epoch), "labels": labels}
        if preprocessing.mix is not None:
            mixed = preprocessing.mix(_derived(keys, _MIX), batch["images"])
            batch["images"], batch["share"] = mixed
        if self.stochastic_depth:
            batch["keys"] = _derived(keys, _DROP)
        if self.teacher is not None:
            batch["teacher_logits"] = self.teacher.logits(batch["images"])
        batch["images"] = resize(batch["images"], preprocessing.image_size)
        return batch

    def __call__(
        self, params: Arrays, batch_stats: Arrays, batch: Batch
    ) -> tuple[Array, tuple[RunningMetrics, Arrays]]:
        """Returns the mean loss, and ``(metrics, batch_stats)`` beside it.

        The metrics hold the loss that is minimised. A mixed image counts as right if
        the class of its larger share is ranked first.
        """
        model = merge(self.graphdef, params, batch_stats)
        kept = None
        if self.stochastic_depth:
            kept = draw_blocks(batch["keys"], len(model.blocks), self.stochastic_depth)
        logits = model(batch["images"], train=True, block_weights=kept)
        losses, metrics = self._losses(logits, batch)
        return losses.mean(), (metrics, split(model)[2])

    def statistics(self, params: Arrays, batch_stats: Arrays, batch: Batch) -> Arrays:
        """Returns BatchNorm's running statistics after the batch."""
        model = merge(self.graphdef, params, batch_stats)
        model(batch["images"], train=True)
        return split(model)[2]

    def _losses(
        self, logits: Float[Array, "b classes"], batch: Batch
    ) -> tuple[Float[Array, " b"], RunningMetrics]:
        labels, share = batch["labels"], batch.get("share")
        if share is None:
            losses, metrics = batch_metrics(logits, labels)
        else:
            others = partners(labels)
            _, metrics = batch_metrics(logits, jnp.where(share < 0.5, others, labels))
            own, other = (
                optax.softmax_cross_entropy_with_integer_labels(logits, which)
                for which in (labels, others)
            )
            losses = share * own + (1 - share) * other
        if self.label_smoothing:
            even = jax.nn.logsumexp(logits, axis=-1) - logits.mean(axis=-1)
            losses += self.label_smoothing * (even - losses)
        if self.teacher is not None:
            divergence = self.teacher.losses(logits, batch["teacher_logits"])
            losses += self.teacher.weight * (divergence - losses)
        return losses, dataclasses.replace(metrics, loss=losses.sum())


def draw_blocks(
    keys: Key[Array, " b"], blocks: int, drop_rate: float
) -> Float32[Array, "b blocks"]:
    """Draws the weight of each block for each image's key: 0 where it is dropped.

    Stochastic depth (Huang et al. 2016, https://arxiv.org/abs/1603.09382, section 3,
    there for a whole batch). The drop rate is that of the last block; earlier blocks
    drop linearly less. The blocks that stay are scaled up, so that evaluation needs no
    change.
    """
    place = np.arange(1, blocks + 1, dtype=np.float32)[None] / blocks
    kept = 1 - np.float32(drop_rate) * place
    draws = jax.vmap(lambda key: jax.random.uniform(key, (blocks,)))(keys)
    return jnp.where(draws < kept, 1 / kept, 0.0)


def _derived(keys: Key[Array, " b"], number: int) -> Any:
    return jax.vmap(lambda key: jax.random.fold_in(key, number))(keys)
