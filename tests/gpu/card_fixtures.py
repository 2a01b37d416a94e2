"""Runs on one card, built from the config of the tiny runs."""

import contextlib
import os
from pathlib import Path

import jax
import numpy as np
from command_line import unchecked

from jax_resnet import config
from jax_resnet.distributed import device
from jax_resnet.distributed.processes import Processes
from jax_resnet.runtime.signals import Interrupt
from jax_resnet.training.build import RunBuilder, describe_data
from jax_resnet.training.metrics import RunningMetrics
from jax_resnet.training.run import train
from jax_resnet.training.task import Task

DRY = os.environ.get("JAX_RESNET_GPU_TESTS") == "dry"
KIND = "cpu" if DRY else "gpu"  # of the card, to command lines
STEPS = 20  # an epoch
BATCH = 32
# At ten times this rate, errors of rounding grow a hundred times in 20 steps.
FIELDS = (
    f"--config.data.train_split=train[:{STEPS * BATCH}]",
    "--config.train.epochs=2",
    "--config.optimizer.learning_rate=0.001",
    "--config.model.dtype=float32",
    # XLA for CPU loops over small images alone in good time.
    *(["--config.train.image_sizes=((0, 8),)"] if DRY else []),
)


def settings_of(tiny, *overrides):
    return config.load(str(tiny), [*FIELDS, *overrides])


def train_on(devices, settings, workdir):
    """A whole run on some devices, as the command line makes it."""
    task = Task(settings, Path(workdir), "tiny", "", say=print)
    with jax.default_device(devices.first), unchecked():
        return train(task, Processes(), Interrupt(), devices)


@contextlib.contextmanager
def precision(name):
    """How exactly products of float32 are computed, in all threads; None: as usual."""
    before = jax.config.jax_default_matmul_precision
    jax.config.update("jax_default_matmul_precision", name)
    try:
        yield
    finally:
        jax.config.update("jax_default_matmul_precision", before)


class Steps:
    """The training steps of a run, compiled for a device, and their images.

    Attributes:
        devices: that one device.
        initial: the state before the first step, in host memory.
    """

    def __init__(self, settings, devices):
        self.devices = devices
        described = describe_data(settings)
        dataset = described.load()
        fastest = device.fastest_dtype(devices.first)
        builder = RunBuilder(
            config.with_dtype(settings, fastest),
            devices,
            dataset.info,
            described.n_train,
            described.n_eval,
        )
        with jax.default_device(devices.first):
            built = builder.build(jax.random.key(0))
            order_key, step_key = jax.random.split(jax.random.key(1))
        self.initial = jax.device_get(built.state)
        self._step = built.steps.train(0)
        with unchecked():
            self._step.compile(
                self._carry(self.initial), *built.pipeline.abstract_train()
            )
        built.pipeline.load(dataset, order_key, step_key)
        (self._chunk,) = built.pipeline.train_chunks(0, 0)

    def _carry(self, state):
        return self.devices.place((state, RunningMetrics.zeros()))

    def run(self, *counts, state=None):
        """Makes a call for each count, of so many steps.

        Returns:
            The state after them and the mean loss of an image in each call, in host
            memory.
        """
        state = self.devices.place(self.initial if state is None else state)
        found = []
        for count in counts:
            carry = (state, self.devices.place(RunningMetrics.zeros()))
            state, metrics = self._step(carry, count, *self._chunk.arrays)
            found.append(metrics)
        losses = [metrics.mean_loss for metrics in jax.device_get(found)]
        return jax.device_get(state), np.array(losses)


def assert_near(found, expected, tolerance, what):
    """No number differs by more; ``pytest -rP`` shows by how much they do."""
    greatest = float(np.abs(np.subtract(found, expected)).max())
    print(f"{what}: differ by {greatest:.1e}, may by {tolerance:.0e}")
    assert greatest <= tolerance, what


def assert_same_change(found, expected, initial, tolerance, what):
    """Two trees of arrays went the same way from the initial one.

    How far they are apart, relative to the way: the norm over all arrays, because a
    single ReLU that opens on one side alone may change a single number by a lot.
    """
    leaves = map(jax.tree.leaves, (found, expected, initial))
    apart = way = 0.0
    for a, b, before in zip(*leaves, strict=True):
        if not np.issubdtype(b.dtype, np.floating):
            np.testing.assert_array_equal(a, b)
            continue
        apart += np.sum(np.subtract(a, b, dtype=np.float64) ** 2)
        way += np.sum(np.subtract(b, before, dtype=np.float64) ** 2)
    relative = float(np.sqrt(apart / way))
    print(f"{what}: differ by {relative:.1e}, may by {tolerance:.0e}")
    assert relative <= tolerance, what


def assert_same_training(found, expected, initial, tolerance, what):
    """Two states are those of the same steps from the initial one."""
    assert int(found.step) == int(expected.step)
    for name in ("params", "batch_stats", "opt_state"):
        parts = (getattr(state, name) for state in (found, expected, initial))
        assert_same_change(*parts, tolerance, f"{what}, {name}")


def are_identical(found, expected):
    leaves = jax.tree.leaves(found), jax.tree.leaves(expected)
    return all(np.array_equal(a, b) for a, b in zip(*leaves, strict=True))
