"""Builds model, optimizer and compiled steps from a config."""

import math
from dataclasses import dataclass, replace
from functools import cached_property, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from ml_collections import ConfigDict

from jax_resnet import config, data
from jax_resnet.augment import compose
from jax_resnet.augment.color import normalize
from jax_resnet.augment.mixup import Mix, make_mix
from jax_resnet.checkpoint.metadata import Architecture
from jax_resnet.distributed.device import fastest_dtype
from jax_resnet.distributed.mesh import DeviceMesh
from jax_resnet.model import resnet
from jax_resnet.model.parts import freeze
from jax_resnet.predictor import Predictor
from jax_resnet.runtime.errors import UserError
from jax_resnet.runtime.memory import memory_bytes
from jax_resnet.training import fine_tuning
from jax_resnet.training.compiled import CompiledSteps
from jax_resnet.training.ema import Ema
from jax_resnet.training.image_sizes import sizes_by_epoch
from jax_resnet.training.input_pipeline import BatchSizes, InputPipeline
from jax_resnet.training.loss import Loss, Preprocessing, Teacher
from jax_resnet.training.multi_step import DeviceLoop, device_loop
from jax_resnet.training.optimizer import (
    make_optimizer,
    make_schedule,
    scaled_learning_rate,
)
from jax_resnet.training.sam import Sam
from jax_resnet.training.state import TrainState, create_train_state
from jax_resnet.training.step import StepOptions


def describe_data(settings: ConfigDict) -> data.Description:
    """Describes the data set that a config names, and prepares it if necessary."""
    return data.describe(
        settings.data.name,
        data_dir=settings.data.dir or None,
        cache_dir=settings.data.cache_dir or None,
        train_split=settings.data.train_split,
        eval_split=settings.data.eval_split,
        holdout=settings.data.holdout,
        resolution=settings.data.resolution,
    )


def check(settings: ConfigDict, devices: DeviceMesh) -> None:
    """Builds a new run without training it; raises UserError if that fails."""
    settings = config.with_dtype(settings, fastest_dtype(devices.first))
    builder = RunBuilder(settings, devices, describe_data(settings))
    _, state = builder.build(jax.random.key(0))
    builder.with_initial_model(state)


@dataclass(frozen=True)
class RunBuilder:
    """Builds a run from its config."""

    settings: ConfigDict  # the config, with a dtype that is not ``"auto"``
    devices: DeviceMesh
    dataset: data.Description
    # the data set as the metadata of the resumed run has it; None starts a new run
    resumed: data.DatasetInfo | None = None

    @cached_property
    def info(self) -> data.DatasetInfo:
        """The data set, with the normalisation constants of the initial model if any.

        Its first layers expect images that are normalised as those it was trained on.
        """
        info, source = self.dataset.info, self.resumed
        if source is None and self.initial_model is not None:
            source = self.initial_model.info
        return replace(info, mean=source.mean, std=source.std) if source else info

    @property
    def architecture(self) -> Architecture:
        """The model for the images and classes of the data set."""
        model, info = self.settings.model, self.info
        return Architecture(
            depth=model.depth,
            width=model.width,
            shortcut=model.shortcut,
            dtype=model.dtype,
            num_classes=info.num_classes,
            in_channels=info.image_shape[-1],
        )

    @cached_property
    def initial_model(self) -> Predictor | None:
        """The model whose weights training starts from, if the config names one."""
        return _open("train.initial_model", self.settings.train.initial_model)

    @cached_property
    def teacher(self) -> Predictor | None:
        """The teacher for distillation, if the config names one."""
        path, info = self.settings.distill.teacher, self.info
        if (teacher := _open("distill.teacher", path)) is None:
            return None
        own, other = (
            (i.class_names, i.image_shape, i.mean) for i in (info, teacher.info)
        )
        if own != other:
            raise UserError(
                f"distill.teacher {path!r} was trained on {teacher.info.name}, not on "
                f"the classes and images of {info.name}"
            )
        return teacher

    def build(self, key: jax.Array) -> tuple[CompiledSteps, TrainState]:
        """Builds the steps, and the state before the first of them from a key.

        The steps are not compiled yet. Raises UserError if a setting is out of range,
        or the teacher does not fit.
        """
        train, image_shape = self.settings.train, self.info.image_shape
        image_sizes = sizes_by_epoch(train.image_sizes, train.epochs, image_shape)
        options, optimizer = self._step_options(), self._optimizer()
        pipeline = InputPipeline(
            self.devices, self._batch_sizes, image_shape, streamed=self._is_streamed()
        )
        network = resnet.initialize(
            key,
            **self.architecture,
            axis_name=None if options.average_statistics else self.devices.axis_name,
            zero_init_residual=self.settings.model.zero_init_residual,
        )
        frozen = freeze(network, self._frozen_parts, self.architecture["depth"])
        options = replace(options, frozen=frozen)
        graphdef, state = create_train_state(
            network,
            optimizer,
            with_average=options.ema is not None,
            frozen=frozen,
        )
        loss = self._loss(graphdef)
        steps = CompiledSteps(
            loss, optimizer, options, pipeline, image_sizes, self._loop
        )
        return steps, state

    def with_initial_model(self, state: TrainState) -> TrainState:
        """Gives the state the weights of the initial model, if there is one.

        If the classes are others, the head stays as it was drawn. Raises UserError if
        the model cannot be opened or has another architecture.
        """
        if self.initial_model is None:
            return state
        return fine_tuning.start_from(
            self.initial_model, state, self.info, self._frozen_parts
        )

    def describe_start(self) -> str:
        """Returns what training starts from in one line; ``""`` for random weights."""
        if self.initial_model is None:
            return ""
        return fine_tuning.describe(self.initial_model, self.info, self._frozen_parts)

    def learning_rates(self) -> list[float]:
        """Returns the learning rate of each epoch's last step."""
        steps = self._batch_sizes.steps_per_epoch
        ends = np.arange(1, self.settings.train.epochs + 1) * steps
        return np.asarray(self._schedule(jnp.asarray(ends - 1))).tolist()

    @property
    def _frozen_parts(self) -> tuple[str, ...]:
        return config.frozen_parts(self.settings.optimizer.frozen)

    @property
    def _loop(self) -> DeviceLoop | None:
        return None if self.devices.first.platform == "cpu" else device_loop

    @cached_property
    def _batch_sizes(self) -> BatchSizes:
        train, count = self.settings.train, self.devices.count
        n_train, n_eval = self.dataset.n_train, self.dataset.n_eval
        if train.batch_size > n_train:
            raise UserError(
                f"train.batch_size is {train.batch_size}, and there are only {n_train} "
                "training images"
            )
        unit, pairs = count * train.accumulation, ""
        if self._mix is not None:
            unit, pairs = 2 * unit, " (of pairs, to mix them)"
        if train.batch_size % unit:
            raise UserError(
                f"train.batch_size is {train.batch_size}, and {count} devices with "
                f"train.accumulation={train.accumulation} need a multiple of "
                f"{unit}{pairs}: change it, or mesh.devices"
            )
        evaluation = min(train.eval_batch_size, n_eval)
        return BatchSizes(
            n_train=n_train,
            n_eval=n_eval,
            train=train.batch_size,
            evaluation=-(-evaluation // count) * count,
            accumulation=train.accumulation,
        )

    @property
    def _mix(self) -> Mix | None:
        return make_mix(**self.settings.mix.to_dict())

    @property
    def _schedule(self) -> optax.Schedule:
        train, options = self.settings.train, self.settings.optimizer
        steps_per_epoch = self._batch_sizes.steps_per_epoch
        total_steps = train.epochs * steps_per_epoch
        warmup_steps = round(options.warmup_epochs * steps_per_epoch)
        return make_schedule(
            options.schedule,
            scaled_learning_rate(
                options.learning_rate,
                batch_size=train.batch_size,
                base_batch_size=options.base_batch_size,
                scaling=options.learning_rate_scaling,
            ),
            total_steps=total_steps,
            warmup_steps=min(warmup_steps, total_steps - 1),
        )

    def _optimizer(self) -> optax.GradientTransformation:
        options = self.settings.optimizer
        return make_optimizer(
            options.name,
            self._schedule,
            momentum=options.momentum,
            nesterov=options.nesterov,
            weight_decay=options.weight_decay,
            weight_decay_on=options.weight_decay_on,
            adam_ratio=options.adam_ratio,
        )

    def _step_options(self) -> StepOptions:
        settings = self.settings
        sam = Sam(settings.optimizer.sam_rho, settings.optimizer.sam_adaptive)
        ema = Ema(settings.ema.decay, settings.ema.statistics_steps)
        return StepOptions(
            accumulation=settings.train.accumulation,
            unroll=self._loop is None,
            axis_name=self.devices.axis_name,
            average_statistics=settings.mesh.batch_norm == "device",
            sam=sam if sam.rho else None,
            ema=ema if ema.decay else None,
        )

    def _loss(self, graphdef: nnx.GraphDef[resnet.ResNet]) -> Loss:
        settings, info = self.settings, self.info
        augmentations = settings.augment.to_dict()
        transforms = augmentations.pop("transforms")
        teacher = None
        if self.teacher is not None:
            distill = settings.distill
            teacher = Teacher(self.teacher.forward, distill.weight, distill.temperature)
        return Loss(
            graphdef,
            Preprocessing(
                compose.build(transforms, augmentations, mean=info.mean, std=info.std),
                partial(normalize, mean=info.mean, std=info.std),
                self._mix,
            ),
            label_smoothing=settings.train.label_smoothing,
            stochastic_depth=settings.model.stochastic_depth,
            teacher=teacher,
        )

    def _is_streamed(self) -> bool:
        placement = self.settings.data.placement
        if placement != "auto":
            return placement == "stream"
        count = self.dataset.n_train + self.dataset.n_eval
        size = count * math.prod(self.dataset.info.image_shape)
        # Leave two thirds of the memory to activations and other programs.
        return size > memory_bytes(self.devices.first) / 3


def _open(field: str, path: str) -> Predictor | None:
    """Opens the model that a field names, if it names one."""
    try:
        return Predictor.open(path) if path else None
    except UserError as error:
        raise UserError(f"{field}: {error}") from error
