"""The parts of a run, built as its config says."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import optax
from ml_collections import ConfigDict

from jax_resnet import data, model, optimizer
from jax_resnet import state as states
from jax_resnet.errors import UserError
from jax_resnet.programs import Programs
from jax_resnet.record import Architecture
from jax_resnet.state import TrainState


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


def architecture(settings: ConfigDict, info: data.DatasetInfo) -> Architecture:
    """The model that a config describes, for the images and classes of a data set."""
    return Architecture(
        depth=settings.model.depth,
        width=settings.model.width,
        shortcut=settings.model.shortcut,
        dtype=settings.model.dtype,
        num_classes=info.num_classes,
        in_channels=info.image_shape[-1],
    )


def programs(
    settings: ConfigDict,
    described: data.Description,
    info: data.DatasetInfo,
    key: jax.Array,
    *,
    loop_on_device: bool,
) -> tuple[Programs, TrainState]:
    """The steps of a run, still to be compiled, and its state before the first.

    Args:
        settings: a config.
        described: its data set.
        info: likewise.
        key: of the initial weights.
        loop_on_device: see :class:`~jax_resnet.steps.Repeated`.

    Raises:
        UserError: if a setting is out of range.
    """
    batch_size = settings.train.batch_size
    if batch_size > described.n_train:
        raise UserError(
            f"train.batch_size is {batch_size}, and there are only "
            f"{described.n_train} training images"
        )
    sgd = optimizer.sgd(
        _schedule(settings, described.n_train // batch_size),
        momentum=settings.optimizer.momentum,
        nesterov=settings.optimizer.nesterov,
        weight_decay=settings.optimizer.weight_decay,
        weight_decay_on=settings.optimizer.weight_decay_on,
    )
    network = model.initialize(key, **architecture(settings, info))
    graphdef, state = states.create(network, sgd)
    built = Programs(
        graphdef,
        sgd,
        info=info,
        recipe=settings.augment.recipe,
        augment_settings=_augment_settings(settings),
        n_train=described.n_train,
        n_eval=described.n_eval,
        batch_size=batch_size,
        eval_batch_size=settings.train.eval_batch_size,
        skip_nonfinite=settings.train.max_skipped_steps > 0,
        loop_on_device=loop_on_device,
    )
    return built, state


def learning_rates(settings: ConfigDict, steps_per_epoch: int) -> list[float]:
    """The learning rate of each epoch's last step."""
    last_steps = np.arange(1, settings.train.epochs + 1) * steps_per_epoch - 1
    schedule = _schedule(settings, steps_per_epoch)
    return np.asarray(schedule(jax.numpy.asarray(last_steps))).tolist()


def _schedule(settings: ConfigDict, steps_per_epoch: int) -> optax.Schedule:
    return optimizer.cosine_schedule(
        settings.optimizer.learning_rate,
        total_steps=settings.train.epochs * steps_per_epoch,
        warmup_steps=round(settings.optimizer.warmup_epochs * steps_per_epoch),
    )


def _augment_settings(settings: ConfigDict) -> Mapping[str, Mapping[str, Any]]:
    groups = {n: g for n, g in settings.augment.items() if n != "recipe"}
    for name, group in groups.items():
        if not isinstance(group, ConfigDict):
            raise UserError(f"augment.{name} must be a group of settings")
    return {name: group.to_dict() for name, group in groups.items()}
