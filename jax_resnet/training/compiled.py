"""The compiled steps of a run."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import numpy as np
import optax

from jax_resnet.distributed.mesh import REPLICATED
from jax_resnet.training.ema import mean_statistics
from jax_resnet.training.input_pipeline import InputPipeline
from jax_resnet.training.loss import Loss
from jax_resnet.training.metrics import RunningMetrics
from jax_resnet.training.multi_step import Loop, MultiStep, copy_arrays
from jax_resnet.training.state import TrainState
from jax_resnet.training.step import (
    StepOptions,
    make_eval_step,
    make_statistics_step,
    make_train_step,
)

_mean_statistics = jax.jit(mean_statistics, static_argnums=1)


class CompiledSteps:
    """Builds the steps of a run, and compiles them from shapes alone.

    Attributes:
        evaluate: step over ``(step, metrics)``; its constants are a chunk's arrays and
            the weights.
        statistics: step over ``(total, step)``, whose constants are a chunk's arrays
            and the averaged parameters; None without an average.
        image_sizes: size of the training images in each epoch.
        compile_seconds: time spent in compilation so far; a resumed run sets it to that
            of its earlier starts.

    Args:
        loss: the loss to minimise.
        optimizer: updates the parameters.
        options: options of the training step.
        pipeline: brings the images to the steps.
        image_sizes: size of the training images in each epoch, None for the full
            size; there is a training step for each size.
        loop: see :class:`~jax_resnet.training.multi_step.MultiStep`.
    """

    def __init__(
        self,
        loss: Loss,
        optimizer: optax.GradientTransformation,
        options: StepOptions,
        pipeline: InputPipeline,
        image_sizes: Sequence[int | None],
        loop: Loop | None,
    ):
        self.image_sizes = image_sizes
        self.compile_seconds = 0.0
        self._pipeline = pipeline
        self._options = options
        self._loops = loop is not None
        devices = pipeline.devices
        axis_name = devices.axis_name
        multi_step = partial(MultiStep, devices=devices, loop=loop)

        def train_step(image_size: int | None) -> MultiStep:
            preprocessing = replace(loss.preprocessing, image_size=image_size)
            step = make_train_step(
                replace(loss, preprocessing=preprocessing),
                optimizer,
                options,
                unroll=loop is None,
                axis_name=axis_name,
            )
            return multi_step(step, layouts=pipeline.train_layouts)

        self._train = {size: train_step(size) for size in dict.fromkeys(image_sizes)}
        self._compiling: dict[int | None, Future[None]] = {}
        self.evaluate = multi_step(
            make_eval_step(
                loss.graphdef,
                loss.preprocessing.normalize,
                batch_size=pipeline.sizes.evaluation // devices.count,
                axis_name=axis_name,
            ),
            layouts=[*pipeline.eval_layouts, REPLICATED],
        )
        statistics_step = make_statistics_step(
            loss, axis_name=axis_name, average_statistics=options.average_statistics
        )
        self.statistics = (
            multi_step(statistics_step, layouts=[*pipeline.train_layouts, REPLICATED])
            if options.ema
            else None
        )

    @property
    def statistics_steps(self) -> int:
        """Steps at the end of an epoch that give the average its statistics."""
        asked = self._options.ema.statistics_steps if self._options.ema else 0
        return min(asked, self._pipeline.sizes.steps_per_epoch)

    def train(self, epoch: int) -> MultiStep:
        """Returns an epoch's step over ``(state, metrics)``, once it is compiled.

        Its constants are a chunk's arrays. Epochs are counted from 0.
        """
        size = self.image_sizes[epoch]
        if size in self._compiling:
            self._compiling.pop(size).result()
        return self._train[size]

    def is_compiled(self, epoch: int) -> bool:
        """Whether :meth:`train` has the step of an epoch without waiting."""
        compiling = self._compiling.get(self.image_sizes[epoch])
        return compiling is None or compiling.done()

    def compile(self, state: TrainState, first_epoch: int = 0) -> None:
        """Compiles all that the run begins with, at the same time.

        The steps for the image sizes of later epochs are compiled in the background.

        Args:
            state: a state of the run, on its devices.
            first_epoch: the epoch that the run begins with, counted from 0.
        """
        started = time.monotonic()
        pipeline, place = self._pipeline, self._pipeline.devices.place
        metrics = place(RunningMetrics.zeros())
        first, *later = dict.fromkeys(self.image_sizes[first_epoch:])
        # The arrays themselves are gone once training begins.
        training = (
            jax.tree.map(_abstract, (state, metrics)),
            *pipeline.abstract_train(),
        )
        jobs: list[Callable[[], object]] = [
            partial(self._train[first].compile, *training),
            partial(
                self.evaluate.compile,
                place((np.int32(0), RunningMetrics.zeros())),
                *pipeline.abstract_eval(),
                state.weights,
            ),
            pipeline.compile,
            partial(copy_arrays, (state, metrics, metrics)),
            partial(copy_arrays, metrics),
        ]
        if self._loops:  # the first call of a step is tried on a copy
            jobs.append(partial(copy_arrays, (state, metrics)))
        if self.statistics is not None:
            total = self.statistics_carry(state, 0)
            arrays = (*training[1:], state.weights.params)
            jobs.append(partial(self.statistics.compile, total, *arrays))
            jobs.append(partial(self.with_statistics, state, total[0]))
            jobs.append(partial(copy_arrays, total[1]))
        with ThreadPoolExecutor(len(jobs)) as pool:
            for submitted in [pool.submit(job) for job in jobs]:
                submitted.result()
        self.compile_seconds += time.monotonic() - started
        background = ThreadPoolExecutor(1)
        self._compiling = {
            size: background.submit(self._compile_later, size, training)
            for size in later
        }
        background.shutdown(wait=False)

    def _compile_later(self, image_size: int | None, training: Any) -> None:
        started = time.monotonic()
        self._train[image_size].compile(*training)
        self.compile_seconds += time.monotonic() - started

    def statistics_carry(self, state: TrainState, first: int) -> Any:
        """The carry of the statistics step, before its first step."""
        shapes = {name: value.shape for name, value in state.batch_stats.items()}
        zeros = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
        return self._pipeline.devices.place((zeros, np.int32(first)))

    def with_statistics(self, state: TrainState, total: Any) -> TrainState:
        """Gives the state's average the mean statistics of a total."""
        assert state.average is not None
        found = _mean_statistics(total, self.statistics_steps)
        return replace(state, average=replace(state.average, batch_stats=found))


def _abstract(array: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=array.sharding)
