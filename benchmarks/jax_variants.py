"""The benchmarks' programs of this package, as ``train.py`` runs them, or changed."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax
from step_changes import BASELINE, CHANGES, Change, network_changed, step_key
from variant import (
    NUM_CLASSES,
    TRAIN_IMAGES,
    WARM_UP_STEPS,
    Options,
    Variant,
    normalization,
    random_split,
    reference_augmentation,
)

from jax_resnet import augment, data, device, model, optimizer
from jax_resnet import state as states
from jax_resnet.history import installed_versions
from jax_resnet.objective import Objective
from jax_resnet.parallel import Devices
from jax_resnet.programs import Programs
from jax_resnet.repeated import Repeated
from jax_resnet.state import TrainState
from jax_resnet.steps import StepOptions, make_epoch_order
from jax_resnet.sums import Sums

TOTAL_STEPS = 150 * 390  # of the reference run, for its learning rates


class JaxVariant(Variant):
    """A :class:`Repeated` step, and what it is given."""

    _step: Repeated
    _carry: Any
    _constants: tuple[Any, ...]
    _steps_per_call = 0

    def __init__(self, options: Options):
        self._device = device.select(options.device)
        # Compilation is measured, not looked up.
        jax.config.update("jax_enable_compilation_cache", False)
        if options.device == "gpu":
            self.gpu = device.describe(self._device)
        self.versions = installed_versions()

    def warm_up(self) -> None:
        """Compiles ahead, and runs the first steps."""
        self._step.compile(self._carry, *self._constants)
        self.run(WARM_UP_STEPS)

    def run(self, steps: int) -> None:
        """Runs steps, in whole calls and at least one, and waits for the device."""
        count = self._steps_per_call or steps
        for _ in range(max(1, steps // count)):
            self._carry = self._step(self._carry, count, *self._constants)
        jax.block_until_ready(self._carry)

    def peak_memory(self) -> int:
        """The most bytes in use by JAX's allocator, or by this process on a CPU."""
        statistics = self._device.memory_stats() or {}
        return statistics.get("peak_bytes_in_use") or super().peak_memory()


def programs_of(
    options: Options,
    change: Change,
    evaluation: data.Split,
    eval_batch_size: int,
) -> tuple[Programs, TrainState]:
    """What ``train.py`` would run, with random images on the device, and the state.

    Args:
        options: the work.
        change: to the training step.
        evaluation: images to evaluate.
        eval_batch_size: how many at once.
    """
    recipe, settings = reference_augmentation(options)
    mean, std = normalization()
    sgd: optax.GradientTransformation = optimizer.make_optimizer(
        "sgd", optimizer.make_schedule("cosine", 0.1, TOTAL_STEPS)
    )
    if change.flat_optimizer:
        sgd = optax.flatten(sgd)
    network = model.initialize(
        jax.random.key(0),
        depth=options.depth,
        num_classes=NUM_CLASSES,
        dtype=options.dtype,
    )
    graphdef, state = states.create(network_changed(network, change), sgd)
    info = data.DatasetInfo(
        name="random",
        version="1",
        image_shape=(32, 32, 3),
        class_names=tuple(map(str, range(NUM_CLASSES))),
        superclass_names=(),
        superclass_of=(),
        mean=mean,
        std=std,
    )
    loop_on_device = change.loop_on_device
    if loop_on_device is None:
        loop_on_device = options.device != "cpu"
    transform = augment.build(recipe, settings, mean=mean, std=std)
    programs = Programs(
        Objective(graphdef, transform),
        sgd,
        StepOptions(),
        devices=Devices((device.current(),)),
        info=info,
        n_train=TRAIN_IMAGES,
        n_eval=len(evaluation.labels),
        batch_size=options.batch_size,
        eval_batch_size=eval_batch_size,
        loop_on_device=loop_on_device,
        loop=change.loop,
    )
    dataset = data.Dataset(info, data.Split(*random_split()), evaluation, "some")
    programs.feed.load(dataset, jax.random.key(1))
    return programs, state


class Training(JaxVariant):
    """Training steps over the resident split, compiled by :class:`Programs`.

    Args:
        options: the work.
        change: to the step.
    """

    def __init__(self, options: Options, change: Change = CHANGES[BASELINE]):
        options = dataclasses.replace(
            options,
            dtype=change.dtype or options.dtype,
            augment=change.augment or options.augment,
        )
        super().__init__(options)
        images, labels = random_split()
        one = data.Split(images[:1], labels[:1])
        programs, state = programs_of(options, change, one, 1)
        (piece,) = programs.feed.training(0, 0)
        self._step = programs.train_step_in(0)
        self._steps_per_call = change.steps_per_call
        self._carry = (state, Sums.zeros())
        key = step_key(change, 2)
        self._constants = jax.block_until_ready((*piece.arrays, key))


class Augmentation(JaxVariant):
    """The same batches, made and not trained on."""

    def __init__(self, options: Options):
        super().__init__(options)
        recipe, settings = reference_augmentation(options)
        mean, std = normalization()
        transform = augment.build(recipe, settings, mean=mean, std=std)
        batch_size = options.batch_size
        epoch_order = make_epoch_order(TRAIN_IMAGES, batch_size=batch_size)

        def step(
            carry: tuple[jax.Array, jax.Array],
            images: jax.Array,
            order: jax.Array,
            key: jax.Array,
        ) -> tuple[jax.Array, jax.Array]:
            index, _ = carry
            batch = order[index % len(order)].reshape(-1)
            keys = jax.random.split(jax.random.fold_in(key, index), batch_size)
            augmented = transform(keys, images[batch])
            return index + 1, augmented

        self._step = Repeated(step, loop_on_device=options.device != "cpu")
        self._carry = (jnp.int32(0), jnp.zeros((batch_size, 32, 32, 3)))
        order = epoch_order(jax.random.key(1), jnp.int32(0))
        constants = (jnp.asarray(random_split()[0]), order, jax.random.key(2))
        self._constants = jax.block_until_ready(constants)
