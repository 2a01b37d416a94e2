"""What a config comes to, on a data set and its devices."""

import dataclasses
import math
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from ml_collections import ConfigDict

from jax_resnet import augment, data, model, optimizer
from jax_resnet import state as states
from jax_resnet.errors import UserError
from jax_resnet.image_sizes import ImageSizes
from jax_resnet.memory import available_bytes, exhaustion_explained
from jax_resnet.mixing import Mix, make_mix
from jax_resnet.objective import Objective, Teacher
from jax_resnet.parallel import Devices
from jax_resnet.predict import Predictor
from jax_resnet.programs import Programs
from jax_resnet.record import Architecture
from jax_resnet.state import TrainState, Weights
from jax_resnet.steps import StepOptions


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
class Plan:
    """How a run is built.

    Attributes:
        settings: its config.
        devices: that it is for.
        described: its data set.
        info: likewise.
    """

    settings: ConfigDict
    devices: Devices
    described: data.Description
    info: data.DatasetInfo

    @property
    def architecture(self) -> Architecture:
        """The model, for the images and classes of the data set."""
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

    @cached_property
    def initial_model(self) -> Predictor | None:
        """The model whose weights training starts from, if the config names one.

        Raises:
            UserError: if there is none.
        """
        path = self.settings.train.initial_model
        return Predictor.open(path) if path else None

    def build(self, key: jax.Array) -> tuple[Programs, TrainState]:
        """The steps, still to be compiled, and the state before the first.

        Args:
            key: of the initial weights.

        Raises:
            UserError: if a setting is out of range.
        """
        batch_size, is_mixed = self.settings.train.batch_size, self._mix is not None
        if batch_size > self.described.n_train:
            raise UserError(
                f"train.batch_size is {batch_size}, and there are only "
                f"{self.described.n_train} training images"
            )
        if batch_size % self._unit:
            raise UserError(
                f"train.batch_size is {batch_size}, and {self.devices.count} devices "
                f"with train.accumulation={self.settings.train.accumulation} need a "
                f"multiple of {self._unit}{' (of pairs, to mix them)' * is_mixed}: "
                "change it, or mesh.devices"
            )
        statistics = self.settings.mesh.batch_norm
        if statistics not in ("global", "device"):
            raise UserError(
                f"mesh.batch_norm must be 'global' or 'device', not {statistics!r}"
            )
        self.image_sizes.check_fits(self.info.image_shape)
        axis_name = self.devices.axis_name if statistics == "global" else None
        options = StepOptions(
            accumulation=self.settings.train.accumulation,
            average_statistics=statistics == "device",
            skip_nonfinite=self.settings.train.max_skipped_steps > 0,
            sam_rho=self.settings.optimizer.sam_rho,
            sam_adaptive=self.settings.optimizer.sam_adaptive,
            ema_decay=self.settings.ema.decay,
            statistics_steps=self.settings.ema.statistics_steps,
        )
        updates = self._optimizer(self.described.n_train // batch_size)
        network = model.initialize(
            key,
            **self.architecture,
            axis_name=axis_name,
            zero_init_residual=self.settings.model.zero_init_residual,
        )
        graphdef, state = states.create(
            network, updates, with_average=options.ema_decay > 0
        )
        programs = Programs(
            self._objective(graphdef),
            updates,
            options,
            devices=self.devices,
            info=self.info,
            n_train=self.described.n_train,
            n_eval=self.described.n_eval,
            batch_size=batch_size,
            eval_batch_size=self.settings.train.eval_batch_size,
            loop_on_device=self.devices.first.platform != "cpu",
            streamed=self._is_streamed(),
            image_sizes=self.image_sizes,
            epochs=self.settings.train.epochs,
        )
        return programs, state

    def _objective(self, graphdef: nnx.GraphDef[model.ResNet]) -> Objective:
        settings = self.settings
        return Objective(
            graphdef,
            augment.build(
                settings.augment.recipe,
                self._augment_settings(),
                mean=self.info.mean,
                std=self.info.std,
            ),
            mix=self._mix,
            label_smoothing=settings.train.label_smoothing,
            stochastic_depth=settings.model.stochastic_depth,
            teacher=self._teaching(),
        )

    @cached_property
    def teacher(self) -> Predictor | None:
        """The model whose outputs are learned, if the config names one.

        Raises:
            UserError: if there is none, or it is of other classes or images.
        """
        options = self.settings.distill
        if not options.teacher:
            return None
        try:
            source = Predictor.open(options.teacher)
        except UserError as error:
            raise UserError(f"distill.teacher: {error}") from error
        seen = (self.info.class_names, self.info.image_shape, self.info.mean)
        if (source.info.class_names, source.info.image_shape, source.info.mean) != seen:
            raise UserError(
                f"distill.teacher {options.teacher!r} was trained on "
                f"{source.info.name}, not on the classes and images of {self.info.name}"
            )
        return source

    def _teaching(self) -> Teacher | None:
        if self.teacher is None:
            return None
        options = self.settings.distill
        return Teacher(self.teacher.forward, options.weight, options.temperature)

    @property
    def _mix(self) -> Mix | None:
        return make_mix(**self.settings.mix.to_dict())

    @property
    def _unit(self) -> int:
        """What the size of a batch is a multiple of."""
        pair = 1 if self._mix is None else 2
        return self.devices.count * self.settings.train.accumulation * pair

    def _is_streamed(self) -> bool:
        placement = self.settings.data.placement
        if placement not in ("auto", "device", "stream"):
            raise UserError(
                "data.placement must be 'auto', 'device' or 'stream', not "
                f"{placement!r}"
            )
        if placement != "auto":
            return placement == "stream"
        images = self.described.n_train + self.described.n_eval
        size = images * math.prod(self.info.image_shape)
        # The rest is for the activations, and for what else there is.
        return size > available_bytes(self.devices.first) / 3

    def with_initial_model(self, state: TrainState) -> TrainState:
        """The state with the weights of the initial model; as it is without one.

        Raises:
            UserError: if that model is not of this architecture.
        """
        source = self.initial_model
        if source is None:
            return state
        template = {"state": Weights(state.params, state.batch_stats)}
        try:
            weights = states.from_arrays(template, source.stored.arrays)["state"]
        except UserError as error:
            raise UserError(
                f"train.initial_model {str(source.source)!r} does not fit: {error}; "
                "set model.* and data.name to what it was trained with"
            ) from error
        return state.restarted(weights)

    def learning_rates(self, steps_per_epoch: int) -> list[float]:
        """The learning rate of each epoch's last step."""
        ends = np.arange(1, self.settings.train.epochs + 1) * steps_per_epoch
        return np.asarray(
            self._schedule(steps_per_epoch)(jnp.asarray(ends - 1))
        ).tolist()

    def exhaustion_explained(self) -> AbstractContextManager[None]:
        """For blocks that may run out of memory, see :mod:`jax_resnet.memory`."""
        batch_size = self.settings.train.batch_size
        available = partial(available_bytes, self.devices.first)
        return exhaustion_explained(
            batch_size, self._step_bytes, available, unit=self._unit
        )

    def _step_bytes(self, batch_size: int) -> int:
        settings = ConfigDict(self.settings.to_dict())
        settings.train.batch_size = batch_size
        settings.train.image_sizes = ()  # the full size takes the most
        other = dataclasses.replace(self, settings=settings)
        programs, state = other.build(jax.random.key(0))
        programs.compile(self.devices.place(state))
        return programs.train_step_in(0).memory()

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
        groups = {n: group for n, group in settings.items() if n != "recipe"}
        for name, group in groups.items():
            if not isinstance(group, ConfigDict):
                raise UserError(f"augment.{name} must be a group of settings")
        return {name: group.to_dict() for name, group in groups.items()}
