"""The epochs of a run: train, evaluate, record, report and save."""

import dataclasses
from functools import partial

import jax
import numpy as np

from jax_resnet.checkpoint.history import EpochRecord
from jax_resnet.checkpoint.metadata import RunMetadata
from jax_resnet.runtime.errors import UserError
from jax_resnet.training.call_queue import CallQueue
from jax_resnet.training.metrics import RunningMetrics
from jax_resnet.training.multi_step import copy_arrays
from jax_resnet.training.run_writer import RunWriter
from jax_resnet.training.start import StartedRun
from jax_resnet.training.state import TrainState
from jax_resnet.training.task import OnEpoch


class DivergedError(UserError):
    """The loss is no longer finite."""


class Loop:
    """Trains and evaluates epoch after epoch; the run's carry is donated.

    What ``on_epoch`` raises ends the run, which resumes after the epoch that it got.
    """

    def __init__(
        self,
        run: StartedRun,
        calls: CallQueue,
        writer: RunWriter,
        on_epoch: OnEpoch | None = None,
    ):
        self._run = run
        self._train = run.settings.train
        self._steps = run.steps
        self._pipeline = run.steps.pipeline
        self._calls = calls
        self._writer = writer
        self._on_epoch = on_epoch

    def run(self) -> tuple[TrainState, RunningMetrics, RunMetadata]:
        """Runs to the last epoch, or until the run has to stop.

        Returns the state, the metrics of the unfinished epoch, and the metadata. Raises
        :class:`UserError` if the loss is not finite, or something cannot be written.
        """
        steps, calls, chunks = self._steps, self._calls, self._pipeline.train_chunks
        sizes = self._pipeline.sizes
        carry, metadata = self._run.carry, self._run.metadata
        done = int(carry[0].step) - len(metadata.history) * sizes.steps_per_epoch
        for epoch in range(len(metadata.history), self._train.epochs):
            callback = partial(self._trained, epoch)
            carry, done = calls.apply(
                steps.train(epoch), carry, chunks(epoch, done), done, callback=callback
            )
            state = self._with_statistics(carry[0], epoch)
            validation, evaluated = self._evaluate(state)
            if evaluated < sizes.eval_steps:
                break  # the run has to stop
            # Copies, as the next step takes the arrays themselves.
            ended, *metrics = copy_arrays((state, carry[1], validation))
            carry, done = self._ahead(epoch + 1, (state, self._zeros()))
            metadata = self._record(metadata, epoch, *jax.device_get(metrics))
            self._run.progress.epoch(metadata.history[-1])
            self._writer.save_epoch(ended, metadata)
            if self._on_epoch is not None:
                self._on_epoch(metadata.history[-1].copy())
        calls.wait()
        metadata = dataclasses.replace(metadata, clock=dataclasses.replace(calls.clock))
        return *carry, metadata

    def _ahead(
        self, epoch: int, carry: tuple[TrainState, RunningMetrics]
    ) -> tuple[tuple[TrainState, RunningMetrics], int]:
        """Queues a call of the next epoch, so that the device has work meanwhile.

        Where it cannot, it waits for the calls that are queued.
        """
        steps, calls = self._steps, self._calls
        is_last = epoch == self._train.epochs
        if is_last or not calls.looks_ahead(steps.train(epoch)):
            calls.wait()
            return carry, 0
        return calls.apply(
            steps.train(epoch),
            carry,
            self._pipeline.train_chunks(epoch, 0),
            callback=partial(self._trained, epoch),
            once=True,
        )

    def _zeros(self) -> RunningMetrics:
        return self._pipeline.devices.place(RunningMetrics.zeros())

    def _with_statistics(self, state: TrainState, epoch: int) -> TrainState:
        """Gives the average its BatchNorm statistics, from the epoch's last steps."""
        steps, sizes = self._steps, self._pipeline.sizes
        if steps.statistics is None or state.average is None:
            return state
        first = sizes.steps_per_epoch - steps.statistics_steps
        carry, done = self._calls.apply(
            steps.statistics,
            steps.statistics_carry(state, epoch * sizes.steps_per_epoch + first),
            self._pipeline.train_chunks(epoch, first),
            first,
            constants=(steps.without_statistics(state),),
        )
        if done < sizes.steps_per_epoch:
            return state
        return steps.with_statistics(state, carry[0])

    def _evaluate(self, state: TrainState) -> tuple[RunningMetrics, int]:
        """Returns the validation metrics, and the number of steps that were taken."""
        (_, metrics), done = self._calls.apply(
            self._steps.evaluate,
            self._pipeline.devices.place((np.int32(0), RunningMetrics.zeros())),
            [self._pipeline.eval_chunk],
            constants=(state.weights,),
        )
        return metrics, done

    def _trained(
        self, epoch: int, metrics: RunningMetrics, done: int, seconds: float
    ) -> None:
        """Takes the metrics of an epoch after ``done`` of its steps."""
        self._calls.clock.training += seconds
        self._writer.raise_failure()
        step = epoch * self._pipeline.sizes.steps_per_epoch + done
        if metrics.bad_step >= 0:
            raise DivergedError(
                f"the loss is not finite at step {int(metrics.bad_step)}: try a lower "
                "optimizer.learning_rate or some optimizer.warmup_epochs, in another "
                "--workdir; the last good checkpoint is kept"
            )
        self._run.progress.trained(step, metrics.mean_loss)

    def _record(
        self,
        metadata: RunMetadata,
        epoch: int,
        training: RunningMetrics,
        validation: RunningMetrics,
    ) -> RunMetadata:
        """Returns the metadata with one more epoch, whose results have been read."""
        sizes, clock = self._pipeline.sizes, self._calls.clock
        step = (epoch + 1) * sizes.steps_per_epoch
        if not np.isfinite(validation.loss):
            raise DivergedError(
                f"the validation loss is not finite at step {step}: try a lower "
                "optimizer.learning_rate, in another --workdir; the last good "
                "checkpoint is kept"
            )
        ended = EpochRecord(
            epoch=epoch + 1,
            step=step,
            train_loss=training.mean_loss,
            train_top1=training.accuracy(1),
            val_loss=validation.mean_loss,
            val_top1=validation.accuracy(1),
            val_top5=validation.accuracy(5),
            learning_rate=self._run.learning_rates[epoch],
            seconds=clock.epoch,
            images_per_second=sizes.steps_per_epoch * sizes.train / clock.training,
        )
        if (image_size := self._steps.image_sizes[epoch]) is not None:
            ended["image_size"] = image_size
        clock.epoch = clock.training = 0.0
        return dataclasses.replace(
            metadata,
            history=[*metadata.history, ended],
            clock=dataclasses.replace(clock),
            compile_seconds=self._steps.compile_seconds,
        )
