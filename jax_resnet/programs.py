"""Everything that is compiled for a run, from shapes alone, before data is there."""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jax_resnet import augment, data
from jax_resnet.average import mean_statistics
from jax_resnet.feed import Feed
from jax_resnet.image_sizes import FULL_SIZE, ImageSizes
from jax_resnet.objective import Objective
from jax_resnet.parallel import REPLICATED, Devices, split_along
from jax_resnet.repeated import Loop, Repeated, counted
from jax_resnet.state import Arrays, TrainState
from jax_resnet.steps import (
    StepOptions,
    make_epoch_order,
    make_indexed_eval_step,
    make_indexed_statistics_step,
    make_indexed_train_step,
    make_train_step,
)
from jax_resnet.sums import Sums


class Programs:
    """The compiled steps.

    Attributes:
        train_steps: over the carry ``(state, sums)``, by the size of the images.
        eval_step: over the carry ``(sums, index)``.
        statistics_step: over the carry ``(total, step)``; None without an average.
        statistics_steps: how many of these at the end of an epoch.
        feed: brings the images to them.
        batch_size: images of a training step.
        steps_per_epoch: of training.
        image_sizes: of the training images in each epoch.

    Args:
        objective: what is minimised.
        optimizer: of the parameters.
        options: how.
        devices: that compute together.
        info: of the data set.
        n_train: number of training images.
        n_eval: number of validation images.
        batch_size: of a training step, on all devices.
        eval_batch_size: of an evaluation step, likewise.
        loop_on_device: see :class:`~jax_resnet.repeated.Repeated`.
        loop: likewise.
        streamed: see :class:`~jax_resnet.feed.Feed`.
        image_sizes: of the training images in each epoch; there is a training step
            for each size.
        epochs: of the whole run; sizes beyond them are not compiled.
    """

    def __init__(
        self,
        objective: Objective,
        optimizer: optax.GradientTransformation,
        options: StepOptions,
        *,
        devices: Devices,
        info: data.DatasetInfo,
        n_train: int,
        n_eval: int,
        batch_size: int,
        eval_batch_size: int,
        loop_on_device: bool,
        loop: Loop = counted,
        streamed: bool = False,
        image_sizes: ImageSizes = FULL_SIZE,
        epochs: int = 1,
    ):
        self.devices = devices
        self.image_sizes = image_sizes
        self._epochs = epochs
        self.batch_size = batch_size
        self.feed = Feed(
            devices,
            make_epoch_order(
                n_train,
                batch_size=batch_size,
                accumulation=options.accumulation,
                sharding=None if streamed else devices.sharding(split_along(2)),
            ),
            image_shape=info.image_shape,
            n_train=n_train,
            n_eval=n_eval,
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            accumulation=options.accumulation,
            streamed=streamed,
        )
        self.steps_per_epoch = self.feed.steps_per_epoch
        self.statistics_steps = min(options.statistics_steps, self.steps_per_epoch)
        axis_name = devices.axis_name
        eval_step = make_indexed_eval_step(
            objective.graphdef,
            partial(augment.normalize, mean=info.mean, std=info.std),
            batch_size=self.feed.eval_batch_size // devices.count,
            axis_name=axis_name,
        )
        statistics_step = make_indexed_statistics_step(
            objective,
            axis_name=axis_name,
            average_statistics=options.average_statistics,
        )
        repeated = partial(
            Repeated, loop_on_device=loop_on_device, loop=loop, devices=devices
        )
        train_layouts = [*self.feed.train_layouts, REPLICATED]

        def train_step(image_size: int | None) -> Repeated:
            step = make_train_step(
                replace(objective, image_size=image_size),
                optimizer,
                options,
                unroll=not loop_on_device,
                axis_name=axis_name,
            )
            indexed = make_indexed_train_step(step, axis_name=axis_name)
            return repeated(indexed, layouts=train_layouts)

        self.train_steps = {
            size: train_step(size) for size in image_sizes.distinct(0, epochs)
        }
        self._compiling: dict[int | None, Future[None]] = {}
        self.eval_step = repeated(
            eval_step, layouts=[REPLICATED, *self.feed.eval_layouts]
        )
        self.statistics_step = (
            repeated(statistics_step, layouts=[REPLICATED, *train_layouts])
            if options.ema_decay
            else None
        )

    def compile(self, state: TrainState, first_epoch: int = 0) -> float:
        """Compiles the steps that the run begins with; returns the seconds it took.

        Those for image sizes of later epochs are compiled in the background.

        Args:
            state: of the run's shapes.
            first_epoch: to train, counted from 0.
        """
        started = time.monotonic()
        key = self.devices.place(jax.random.key(0))
        sums = self.zeros()
        training = (*self.feed.abstract_train(), key)
        # A run whose last epoch is done may still have its report to write.
        next_epoch = min(first_epoch, self._epochs - 1)
        first, *later = self.image_sizes.distinct(next_epoch, self._epochs)
        carry = jax.tree.map(_abstract, (state, sums))
        self.train_steps[first].compile(carry, *training)
        self.eval_step.compile(
            self.eval_carry(sums), state.weights, *self.feed.abstract_eval()
        )
        if self.statistics_step is not None:
            total = self.statistics_carry(state, 0)
            self.statistics_step.compile(total, state.weights.params, *training)
        background = ThreadPoolExecutor(1)
        self._compiling = {
            size: background.submit(self.train_steps[size].compile, carry, *training)
            for size in later
        }
        background.shutdown(wait=False)
        return time.monotonic() - started

    def train_step_in(self, epoch: int) -> Repeated:
        """The training step of an epoch, counted from 0; waits until it is compiled."""
        size = self.image_sizes.at(epoch)
        if size in self._compiling:
            self._compiling.pop(size).result()
        return self.train_steps[size]

    def zeros(self) -> Sums:
        """The empty sums, on the devices."""
        return self.devices.place(Sums.zeros())

    def eval_carry(self, sums: Sums) -> tuple[Sums, jax.Array]:
        """What evaluation begins the images that are there with."""
        return sums, self.devices.place(jnp.int32(0))

    def statistics_carry(
        self, state: TrainState, first: int
    ) -> tuple[Arrays, jax.Array]:
        """What the average's statistics begin with, at the first step."""
        shapes = {name: value.shape for name, value in state.batch_stats.items()}
        zeros = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
        return self.devices.place((zeros, np.int32(first)))

    def with_statistics(self, state: TrainState, total: Arrays) -> TrainState:
        """The state whose average has the statistics of a total."""
        assert state.average is not None
        found = _mean_statistics(total, self.statistics_steps)
        return replace(state, average=replace(state.average, batch_stats=found))


def _abstract(array: jax.Array) -> jax.ShapeDtypeStruct:
    # The arrays themselves are gone once training begins.
    return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=array.sharding)


_mean_statistics = jax.jit(mean_statistics, static_argnums=1)
