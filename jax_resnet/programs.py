"""Everything that is compiled for a run, from shapes alone, before data is there."""

import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from jax_resnet import augment, data
from jax_resnet.feed import Feed
from jax_resnet.model import ResNet
from jax_resnet.parallel import REPLICATED, Devices, split_along
from jax_resnet.repeated import Repeated
from jax_resnet.state import TrainState
from jax_resnet.steps import (
    make_epoch_order,
    make_indexed_eval_step,
    make_indexed_train_step,
    make_train_step,
)
from jax_resnet.sums import Sums


class Programs:
    """The compiled steps.

    Attributes:
        train_step: over the carry ``(state, sums)``.
        eval_step: over the carry ``(sums, index)``.
        feed: brings the images to them.
        batch_size: images of a training step.
        steps_per_epoch: of training.

    Args:
        graphdef: of the model.
        optimizer: of the parameters.
        devices: that compute together.
        info: of the data set.
        recipe: names of the augmentations, in order.
        augment_settings: by name.
        n_train: number of training images.
        n_eval: number of validation images.
        batch_size: of a training step, on all devices.
        eval_batch_size: of an evaluation step, likewise.
        accumulation: see :func:`~jax_resnet.steps.make_train_step`.
        average_statistics: likewise.
        skip_nonfinite: likewise.
        loop_on_device: see :class:`~jax_resnet.repeated.Repeated`.
        streamed: see :class:`~jax_resnet.feed.Feed`.

    Raises:
        UserError: for an augmentation that is unknown or out of range.
    """

    def __init__(
        self,
        graphdef: nnx.GraphDef[ResNet],
        optimizer: optax.GradientTransformation,
        *,
        devices: Devices,
        info: data.DatasetInfo,
        recipe: Sequence[str],
        augment_settings: Mapping[str, Mapping[str, Any]],
        n_train: int,
        n_eval: int,
        batch_size: int,
        eval_batch_size: int,
        accumulation: int = 1,
        average_statistics: bool = False,
        skip_nonfinite: bool = False,
        loop_on_device: bool,
        streamed: bool = False,
    ):
        self.devices = devices
        self.batch_size = batch_size
        self.feed = Feed(
            devices,
            make_epoch_order(
                n_train,
                batch_size=batch_size,
                accumulation=accumulation,
                sharding=None if streamed else devices.sharding(split_along(2)),
            ),
            image_shape=info.image_shape,
            n_train=n_train,
            n_eval=n_eval,
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            accumulation=accumulation,
            streamed=streamed,
        )
        self.steps_per_epoch = self.feed.steps_per_epoch
        transform = augment.build(
            recipe, augment_settings, mean=info.mean, std=info.std
        )
        normalize = partial(augment.normalize, mean=info.mean, std=info.std)
        train_step = make_train_step(
            graphdef,
            optimizer,
            transform,
            accumulation=accumulation,
            unroll=not loop_on_device,
            axis_name=devices.axis_name,
            average_statistics=average_statistics,
            skip_nonfinite=skip_nonfinite,
        )
        eval_step = make_indexed_eval_step(
            graphdef,
            normalize,
            batch_size=self.feed.eval_batch_size // devices.count,
            axis_name=devices.axis_name,
        )
        repeated = partial(Repeated, loop_on_device=loop_on_device, devices=devices)
        self.train_step = repeated(
            make_indexed_train_step(train_step, axis_name=devices.axis_name),
            layouts=[*self.feed.train_layouts, REPLICATED],
        )
        self.eval_step = repeated(
            eval_step, layouts=[REPLICATED, REPLICATED, *self.feed.eval_layouts]
        )

    def compile(self, state: TrainState) -> float:
        """Compiles the steps; returns the seconds it took."""
        started = time.monotonic()
        key = self.devices.place(jax.random.key(0))
        sums = self.zeros()
        self.train_step.compile((state, sums), *self.feed.abstract_train(), key)
        carry = self.eval_carry(sums)
        statics = (state.params, state.batch_stats)
        self.eval_step.compile(carry, *statics, *self.feed.abstract_eval())
        return time.monotonic() - started

    def zeros(self) -> Sums:
        """The empty sums, on the devices."""
        return self.devices.place(Sums.zeros())

    def eval_carry(self, sums: Sums) -> tuple[Sums, jax.Array]:
        """What evaluation begins the images that are there with."""
        return sums, self.devices.place(jnp.int32(0))
