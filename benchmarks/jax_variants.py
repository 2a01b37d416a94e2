"""The benchmarks' programs of this package, as ``train.py`` runs them, or changed."""

import dataclasses
from functools import partial
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
    random_info,
    random_split,
    reference_augmentation,
)

from jax_resnet import data
from jax_resnet.augment import compose
from jax_resnet.augment.color import normalize
from jax_resnet.checkpoint.history import installed_versions
from jax_resnet.distributed import device
from jax_resnet.distributed.mesh import REPLICATED, DeviceMesh
from jax_resnet.model import resnet
from jax_resnet.training import optimizer
from jax_resnet.training.compiled import CompiledSteps
from jax_resnet.training.input_pipeline import (
    BatchSizes,
    InputPipeline,
    epoch_order,
)
from jax_resnet.training.loss import Loss, Preprocessing
from jax_resnet.training.metrics import RunningMetrics
from jax_resnet.training.multi_step import DeviceLoop, MultiStep, device_loop
from jax_resnet.training.state import TrainState, create_train_state
from jax_resnet.training.step import StepOptions

TOTAL_STEPS = 150 * 390  # of the reference run, for its learning rates


class JaxVariant(Variant):
    """A step, and its arguments."""

    _step: MultiStep
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


def build(
    options: Options, change: Change, evaluation: data.Split, eval_batch_size: int
) -> tuple[CompiledSteps, TrainState]:
    """Builds what ``train.py`` would run, and loads random images.

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
    network = resnet.initialize(
        jax.random.key(0),
        depth=options.depth,
        num_classes=NUM_CLASSES,
        dtype=options.dtype,
    )
    graphdef, state = create_train_state(network_changed(network, change), sgd)
    info = random_info()
    preprocessing = Preprocessing(
        compose.build(recipe, settings, mean=mean, std=std),
        partial(normalize, mean=mean, std=std),
    )
    sizes = BatchSizes(
        n_train=TRAIN_IMAGES,
        n_eval=len(evaluation.labels),
        train=options.batch_size,
        evaluation=eval_batch_size,
    )
    devices = DeviceMesh((device.current(),))
    pipeline = InputPipeline(devices, sizes, info.image_shape)
    steps = CompiledSteps(
        Loss(graphdef, preprocessing),
        sgd,
        StepOptions(),
        pipeline,
        image_sizes=[None],
        loop=_loop(options, change),
    )
    dataset = data.Dataset(info, data.Split(*random_split()), evaluation, "some")
    pipeline.load(dataset, jax.random.key(1), step_key(change, 2))
    return steps, devices.place(state)


def _loop(options: Options, change: Change) -> DeviceLoop | None:
    loop_on_device = change.loop_on_device
    if loop_on_device is None:
        loop_on_device = options.device != "cpu"
    return change.loop if loop_on_device else None


class Training(JaxVariant):
    """Training steps over the resident split, as ``train.py`` compiles them.

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
        steps, state = build(options, change, one, 1)
        (chunk,) = steps.pipeline.train_chunks(0, 0)
        self._step = steps.train(0)
        self._steps_per_call = change.steps_per_call
        metrics = steps.pipeline.devices.place(RunningMetrics.zeros())
        self._carry = (state, metrics)
        self._constants = jax.block_until_ready(chunk.arrays)


class Augmentation(JaxVariant):
    """The same batches, made and not trained on."""

    def __init__(self, options: Options):
        super().__init__(options)
        recipe, settings = reference_augmentation(options)
        mean, std = normalization()
        transform = compose.build(recipe, settings, mean=mean, std=std)
        batch_size = options.batch_size
        sizes = BatchSizes(TRAIN_IMAGES, 1, batch_size, 1)

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

        loop = None if options.device == "cpu" else device_loop
        devices = DeviceMesh((device.current(),))
        self._step = MultiStep(step, devices, [REPLICATED] * 3, loop)
        self._carry = (jnp.int32(0), jnp.zeros((batch_size, 32, 32, 3)))
        order = epoch_order(sizes, jax.random.key(1), jnp.int32(0))
        constants = (jnp.asarray(random_split()[0]), order, jax.random.key(2))
        self._constants = jax.block_until_ready(constants)
