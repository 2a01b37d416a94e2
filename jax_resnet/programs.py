"""Everything that is compiled for a run, from shapes alone, before data is there."""

import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jax_resnet import augment, data
from jax_resnet.model import ResNet
from jax_resnet.state import TrainState
from jax_resnet.steps import (
    Repeated,
    Sums,
    make_epoch_order,
    make_indexed_eval_step,
    make_indexed_train_step,
    make_train_step,
)


class Programs:
    """The compiled steps, and the splits in the form that they take.

    Attributes:
        train_step: over the carry ``(state, sums)``.
        eval_step: over the carry ``(sums, index)``.
        epoch_order: ``(key, epoch) -> order``.
        batch_size: images of a training step.
        steps_per_epoch: of training.
        eval_steps: batches of one evaluation.

    Args:
        graphdef: of the model.
        optimizer: of the parameters.
        info: of the data set.
        recipe: names of the augmentations, in order.
        augment_settings: by name.
        n_train: number of training images.
        n_eval: number of validation images.
        batch_size: of a training step.
        eval_batch_size: of an evaluation step.
        skip_nonfinite: see :func:`~jax_resnet.steps.make_train_step`.
        loop_on_device: see :class:`~jax_resnet.steps.Repeated`.

    Raises:
        UserError: for an augmentation that is unknown or out of range.
    """

    def __init__(
        self,
        graphdef: nnx.GraphDef[ResNet],
        optimizer: optax.GradientTransformation,
        *,
        info: data.DatasetInfo,
        recipe: Sequence[str],
        augment_settings: Mapping[str, Mapping[str, Any]],
        n_train: int,
        n_eval: int,
        batch_size: int,
        eval_batch_size: int,
        skip_nonfinite: bool = False,
        loop_on_device: bool,
    ):
        self._image_shape = info.image_shape
        self._n_train = n_train
        self._eval_batch_size = min(eval_batch_size, n_eval)
        self.batch_size = batch_size
        self.steps_per_epoch = n_train // batch_size
        self.eval_steps = -(-n_eval // self._eval_batch_size)
        transform = augment.build(
            recipe, augment_settings, mean=info.mean, std=info.std
        )
        normalize = partial(augment.normalize, mean=info.mean, std=info.std)
        train_step = make_train_step(
            graphdef, optimizer, transform, skip_nonfinite=skip_nonfinite
        )
        eval_step = make_indexed_eval_step(
            graphdef, normalize, batch_size=self._eval_batch_size
        )
        self.train_step = Repeated(
            make_indexed_train_step(train_step, batch_size=batch_size),
            loop_on_device=loop_on_device,
        )
        self.eval_step = Repeated(eval_step, loop_on_device=loop_on_device)
        self.epoch_order = make_epoch_order(n_train, batch_size=batch_size)

    def compile(self, state: TrainState) -> float:
        """Compiles the steps; returns the seconds it took."""
        started = time.monotonic()
        key = jax.random.key(0)
        order = jax.eval_shape(self.epoch_order, key, jnp.int32(0))
        sums = Sums.zeros()
        train_split = self._abstract_split(self._n_train)
        self.train_step.compile((state, sums), *train_split, order, key)
        eval_split = self._abstract_split(self.eval_steps * self._eval_batch_size)
        carry = (sums, jnp.int32(0))
        self.eval_step.compile(carry, state.params, state.batch_stats, *eval_split)
        return time.monotonic() - started

    def place_train(self, split: data.Split) -> tuple[jax.Array, jax.Array]:
        """The training split on the device."""
        return jnp.asarray(split.images), jnp.asarray(split.labels)

    def place_eval(self, split: data.Split) -> tuple[jax.Array, jax.Array]:
        """The validation split on the device, in whole batches, padded with -1."""
        missing = -len(split.labels) % self._eval_batch_size
        images = np.pad(split.images, [(0, missing), (0, 0), (0, 0), (0, 0)])
        labels = np.pad(split.labels, (0, missing), constant_values=-1)
        return jnp.asarray(images), jnp.asarray(labels)

    def _abstract_split(
        self, n: int
    ) -> tuple[jax.ShapeDtypeStruct, jax.ShapeDtypeStruct]:
        images = jax.ShapeDtypeStruct((n, *self._image_shape), jnp.uint8)
        return images, jax.ShapeDtypeStruct((n,), jnp.int32)
