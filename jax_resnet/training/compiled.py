"""The compiled steps of a run."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import numpy as np
import optax

from jax_resnet.distributed.mesh import REPLICATED
from jax_resnet.model.weights import Weights
from jax_resnet.runtime.jax_settings import fixed_settings
from jax_resnet.training.ema import mean_statistics
from jax_resnet.training.input_pipeline import InputPipeline
from jax_resnet.training.loss import Loss
from jax_resnet.training.metrics import RunningMetrics
from jax_resnet.training.multi_step import DeviceLoop, MultiStep
from jax_resnet.training.state import TrainState
from jax_resnet.training.step import (
    StepOptions,
    make_eval_step,
    make_statistics_step,
    make_train_step,
)

_mean_statistics = jax.jit(mean_statistics, static_argnums=1)


class CompiledSteps:
    """The steps of training and evaluation, compiled from shapes alone.

    There is a training step for each size of the images. ``loop`` is that of
    :class:`~jax_resnet.training.multi_step.MultiStep`.

    Attributes:
        loss: the loss, for images of the full size.
        pipeline: brings the images, once they are loaded.
        evaluate: step over ``(step, metrics)``; its constants are a chunk's arrays and
            the weights.
        statistics: step over ``(total, step)``; its constants are a chunk's arrays and
            the weights that get statistics. None without an average.
        image_sizes: size of the training images in each epoch; None is the full size.
        compile_seconds: time spent in compilation so far; a resumed run sets it to that
            of its earlier starts.
    """

    def __init__(
        self,
        loss: Loss,
        optimizer: optax.GradientTransformation,
        options: StepOptions,
        pipeline: InputPipeline,
        image_sizes: Sequence[int | None],
        loop: DeviceLoop | None,
    ):
        self.loss = loss
        self.image_sizes = image_sizes
        self.compile_seconds = 0.0
        self.pipeline = pipeline
        self._options = options
        devices = pipeline.devices
        multi_step = partial(MultiStep, devices=devices, loop=loop)

        def train_step(image_size: int | None) -> MultiStep:
            step = make_train_step(loss.at_size(image_size), optimizer, options)
            return multi_step(step, layouts=pipeline.train_layouts)

        self._train = {size: train_step(size) for size in dict.fromkeys(image_sizes)}
        batch_size = pipeline.sizes.evaluation // devices.count
        self.evaluate = multi_step(
            make_eval_step(loss, batch_size=batch_size, axis_name=options.axis_name),
            layouts=[*pipeline.eval_layouts, REPLICATED],
        )
        self.statistics: MultiStep | None = None
        if options.ema:
            self.statistics = multi_step(
                make_statistics_step(loss, options),
                layouts=[*pipeline.train_layouts, REPLICATED],
            )

    def train(self, epoch: int) -> MultiStep:
        """Returns the step of an epoch, counted from 0, over ``(state, metrics)``.

        Its constants are a chunk's arrays.
        """
        return self._train[self.image_sizes[epoch]]

    def compile(self, state: TrainState, first_epoch: int = 0) -> None:
        """Compiles all that a run takes from an epoch on, side by side."""
        started = time.monotonic()
        pipeline, place = self.pipeline, self.pipeline.devices.place
        chunk, eval_chunk = pipeline.abstract_train(), pipeline.abstract_eval()
        metrics = place(RunningMetrics.zeros())
        eval_carry = place((np.int32(0), RunningMetrics.zeros()))
        sizes = dict.fromkeys(self.image_sizes[first_epoch:])
        jobs: list[Callable[[], None]] = [
            *(partial(self._train[s].compile, (state, metrics), *chunk) for s in sizes),
            partial(self.evaluate.compile, eval_carry, *eval_chunk, state.weights),
            pipeline.compile,
        ]
        if self.statistics is not None:
            carry, weights = (
                self.statistics_carry(state, 0),
                self.without_statistics(state),
            )
            jobs.append(partial(self.statistics.compile, carry, *chunk, weights))
        with ThreadPoolExecutor(len(jobs)) as pool:
            list(pool.map(fixed_settings()(lambda job: job()), jobs))
        self.compile_seconds += time.monotonic() - started

    @property
    def statistics_steps(self) -> int:
        """Steps at the end of an epoch that give the average its statistics."""
        ema = self._options.ema
        steps = ema.statistics_steps if ema else 0
        return min(steps, self.pipeline.sizes.steps_per_epoch)

    def statistics_carry(self, state: TrainState, first: int) -> Any:
        """Returns the carry of the statistics step, before its first step."""
        trained = self._options.trained(state.batch_stats)
        zeros = {name: np.zeros(x.shape, x.dtype) for name, x in trained.items()}
        return self.pipeline.devices.place((zeros, np.int32(first)))

    def without_statistics(self, state: TrainState) -> Weights:
        """Returns the averaged weights, with no statistics but the frozen ones."""
        weights = state.weights
        return replace(weights, batch_stats=self._options.kept(weights.batch_stats))

    def with_statistics(self, state: TrainState, total: Any) -> TrainState:
        """Gives the state's average the mean statistics of a total."""
        assert state.average is not None
        found = _mean_statistics(total, self.statistics_steps)
        batch_stats = state.average.batch_stats | found
        return replace(state, average=replace(state.average, batch_stats=batch_stats))
