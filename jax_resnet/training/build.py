"""Builds model, optimizer and compiled steps from a config."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from ml_collections import ConfigDict

from jax_resnet import data
from jax_resnet.augment import compose
from jax_resnet.augment.color import normalize
from jax_resnet.augment.mixup import Mix, make_mix
from jax_resnet.checkpoint.metadata import Architecture
from jax_resnet.distributed.mesh import DeviceMesh
from jax_resnet.model import resnet
from jax_resnet.predict import Predictor
from jax_resnet.runtime.errors import UserError
from jax_resnet.runtime.memory import memory_bytes
from jax_resnet.training import optimizer
from jax_resnet.training.compiled import CompiledSteps
from jax_resnet.training.ema import Ema
from jax_resnet.training.image_sizes import ImageSizes
from jax_resnet.training.input_pipeline import BatchSizes, InputPipeline
from jax_resnet.training.loss import Loss, Preprocessing, Teacher
from jax_resnet.training.multi_step import counted
from jax_resnet.training.pretrained import open_teacher, with_weights_of
from jax_resnet.training.sam import Sam
from jax_resnet.training.state import TrainState, create_train_state
from jax_resnet.training.step import StepOptions


def describe_data(settings: ConfigDict) -> data.Description:
    """The data set that a config names, prepared if it has to be."""
    return data.describe(
        settings.data.name,
        data_dir=settings.data.dir or None,
        cache_dir=settings.data.cache_dir or None,
        train_split=settings.data.train_split,
        eval_split=settings.data.eval_split,
        holdout=settings.data.holdout,
    )


@dataclass(frozen=True)
class BuiltRun:
    """A run that is built, but not compiled.

    Attributes:
        steps: its steps.
        pipeline: their images, to be loaded.
        state: the state before the first step, in host memory or on any device.
    """

    steps: CompiledSteps
    pipeline: InputPipeline
    state: TrainState


@dataclass(frozen=True)
class RunBuilder:
    """Builds a run from its config.

    Attributes:
        settings: the config, with a dtype that is not ``"auto"``.
        devices: the devices of the run.
        info: the data set.
        n_train: number of training images.
        n_eval: number of validation images.
    """

    settings: ConfigDict
    devices: DeviceMesh
    info: data.DatasetInfo
    n_train: int
    n_eval: int

    @property
    def architecture(self) -> Architecture:
        """The model for the images and classes of the data set."""
        return Architecture(
            depth=self.settings.model.depth,
            width=self.settings.model.width,
            shortcut=self.settings.model.shortcut,
            dtype=self.settings.model.dtype,
            num_classes=self.info.num_classes,
            in_channels=self.info.image_shape[-1],
        )

    @property
    def image_sizes(self) -> ImageSizes:
        """The sizes of the training images."""
        return ImageSizes.from_config(self.settings.train.image_sizes)

    @property
    def batch_sizes(self) -> BatchSizes:
        """How the images are cut into batches.

        Raises:
            UserError: if a batch exceeds the images, or cannot be shared out evenly.
        """
        train = self.settings.train
        if train.batch_size > self.n_train:
            raise UserError(
                f"train.batch_size is {train.batch_size}, and there are only "
                f"{self.n_train} training images"
            )
        if train.batch_size % self._batch_unit:
            pairs = "" if self._mix is None else " (of pairs, to mix them)"
            raise UserError(
                f"train.batch_size is {train.batch_size}, and {self.devices.count} "
                f"devices with train.accumulation={train.accumulation} need a multiple "
                f"of {self._batch_unit}{pairs}: change it, or mesh.devices"
            )
        count = self.devices.count
        evaluation = min(train.eval_batch_size, self.n_eval)
        return BatchSizes(
            n_train=self.n_train,
            n_eval=self.n_eval,
            train=train.batch_size,
            evaluation=-(-evaluation // count) * count,
            accumulation=train.accumulation,
        )

    @property
    def _batch_unit(self) -> int:
        """Number that the batch size is a multiple of."""
        pair = 1 if self._mix is None else 2
        return self.devices.count * self.settings.train.accumulation * pair

    @cached_property
    def initial_model(self) -> Predictor | None:
        """The model whose weights training starts from, if the config names one.

        Raises:
            UserError: if there is none.
        """
        path = self.settings.train.initial_model
        return Predictor.open(path) if path else None

    def build(self, key: jax.Array) -> BuiltRun:
        """Builds the steps and the state before the first of them.

        Args:
            key: gives the initial weights.

        Raises:
            UserError: if a setting is out of range.
        """
        sizes, options = self.batch_sizes, self._step_options()
        self.image_sizes.check_fits(self.info.image_shape)
        updates = self._optimizer(sizes.steps_per_epoch)
        network = resnet.initialize(
            key,
            **self.architecture,
            axis_name=None if options.average_statistics else self.devices.axis_name,
            zero_init_residual=self.settings.model.zero_init_residual,
        )
        graphdef, state = create_train_state(
            network, updates, with_average=options.ema is not None
        )
        pipeline = InputPipeline(
            self.devices, sizes, self.info.image_shape, streamed=self._is_streamed()
        )
        epochs = range(self.settings.train.epochs)
        steps = CompiledSteps(
            self._loss(graphdef),
            updates,
            options,
            pipeline,
            [self.image_sizes.at(epoch) for epoch in epochs],
            loop=None if self.devices.first.platform == "cpu" else counted,
        )
        return BuiltRun(steps, pipeline, state)

    def _step_options(self) -> StepOptions:
        statistics = self.settings.mesh.batch_norm
        if statistics not in ("global", "device"):
            raise UserError(
                f"mesh.batch_norm must be 'global' or 'device', not {statistics!r}"
            )
        sam = Sam(self.settings.optimizer.sam_rho, self.settings.optimizer.sam_adaptive)
        ema = Ema(self.settings.ema.decay, self.settings.ema.statistics_steps)
        return StepOptions(
            accumulation=self.settings.train.accumulation,
            average_statistics=statistics == "device",
            skip_nonfinite=self.settings.train.max_skipped_steps > 0,
            sam=sam if sam.rho else None,
            ema=ema if ema.decay else None,
        )

    def _loss(self, graphdef: nnx.GraphDef[resnet.ResNet]) -> Loss:
        settings, info = self.settings, self.info
        return Loss(
            graphdef,
            Preprocessing(
                compose.build(
                    settings.augment.transforms,
                    self._augment_settings(),
                    mean=info.mean,
                    std=info.std,
                ),
                partial(normalize, mean=info.mean, std=info.std),
                self._mix,
            ),
            label_smoothing=settings.train.label_smoothing,
            stochastic_depth=settings.model.stochastic_depth,
            teacher=self._teacher_in_loss(),
        )

    @cached_property
    def teacher(self) -> Predictor | None:
        """The teacher for distillation, if the config names one.

        Raises:
            UserError: if there is none, or it knows other classes or images.
        """
        path = self.settings.distill.teacher
        return open_teacher(path, self.info) if path else None

    def _teacher_in_loss(self) -> Teacher | None:
        if self.teacher is None:
            return None
        options = self.settings.distill
        return Teacher(self.teacher.forward, options.weight, options.temperature)

    @property
    def _mix(self) -> Mix | None:
        return make_mix(**self.settings.mix.to_dict())

    def _is_streamed(self) -> bool:
        placement = self.settings.data.placement
        if placement not in ("auto", "device", "stream"):
            raise UserError(
                "data.placement must be 'auto', 'device' or 'stream', not "
                f"{placement!r}"
            )
        if placement != "auto":
            return placement == "stream"
        images = self.n_train + self.n_eval
        size = images * math.prod(self.info.image_shape)
        # Leave two thirds of the memory to activations and other programs.
        return size > memory_bytes(self.devices.first) / 3

    def with_initial_model(self, state: TrainState) -> TrainState:
        """Gives the state the weights of the initial model, if there is one.

        Raises:
            UserError: if that model is not of this architecture.
        """
        source = self.initial_model
        return state if source is None else with_weights_of(source, state)

    def learning_rates(self) -> list[float]:
        """The learning rate of each epoch's last step."""
        steps_per_epoch = self.batch_sizes.steps_per_epoch
        ends = np.arange(1, self.settings.train.epochs + 1) * steps_per_epoch
        rates = self._schedule(steps_per_epoch)(jnp.asarray(ends - 1))
        return np.asarray(rates).tolist()

    def _optimizer(self, steps_per_epoch: int) -> optax.GradientTransformation:
        options = self.settings.optimizer
        return optimizer.make_optimizer(
            options.name,
            self._schedule(steps_per_epoch),
            momentum=options.momentum,
            nesterov=options.nesterov,
            weight_decay=options.weight_decay,
            weight_decay_on=options.weight_decay_on,
            adam_ratio=options.adam_ratio,
        )

    def _schedule(self, steps_per_epoch: int) -> optax.Schedule:
        options, epochs = self.settings.optimizer, self.settings.train.epochs
        return optimizer.make_schedule(
            options.schedule,
            optimizer.scaled_learning_rate(
                options.learning_rate,
                batch_size=self.settings.train.batch_size,
                base_batch_size=options.base_batch_size,
                scaling=options.learning_rate_scaling,
            ),
            total_steps=epochs * steps_per_epoch,
            warmup_steps=round(options.warmup_epochs * steps_per_epoch),
        )

    def _augment_settings(self) -> Mapping[str, Mapping[str, Any]]:
        settings = self.settings.augment
        groups = {n: group for n, group in settings.items() if n != "transforms"}
        for name, group in groups.items():
            if not isinstance(group, ConfigDict):
                raise UserError(f"augment.{name} must be a group of settings")
        return {name: group.to_dict() for name, group in groups.items()}
