"""Runs and single steps on one device, built from the config of the tiny runs."""

import contextlib
import os

import jax
import numpy as np
from command_line import final_arrays, unchecked

from jax_resnet import config
from jax_resnet.distributed.processes import Processes
from jax_resnet.runtime.signals import Interrupt
from jax_resnet.training.build import RunBuilder, describe_data
from jax_resnet.training.metrics import RunningMetrics
from jax_resnet.training.run import train
from jax_resnet.training.task import Task

DRY = os.environ.get("JAX_RESNET_GPU_TESTS") == "dry"
STEPS = 20  # an epoch
FIELDS = (
    f"--config.data.train_split=train[:{STEPS * 32}]",
    "--config.train.epochs=2",
    # At ten times this rate, errors of rounding grow a hundred times in 20 steps.
    "--config.optimizer.learning_rate=0.001",
    "--config.model.dtype=float32",
)


def settings_of(tiny, *overrides):
    return config.load(str(tiny), [*FIELDS, *overrides])


def train_on(devices, settings, workdir):
    """Makes or resumes a whole run, as the command line does; returns its directory."""
    task = Task(settings, workdir, "tiny", "", say=print)
    with jax.default_device(devices.first), unchecked():
        assert train(task, Processes(), Interrupt(), devices).stopped_by is None
    return workdir


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
        initial: the state before the first step, in host memory.
    """

    def __init__(self, settings, devices):
        self._devices = devices
        described = describe_data(settings)
        dataset = described.load()
        builder = RunBuilder(settings, devices, described)
        with jax.default_device(devices.first):
            steps, state = builder.build(jax.random.key(0))
            keys = jax.random.split(jax.random.key(1))
        self.initial = jax.device_get(state)
        self._step = steps.train(0)
        carry = devices.place((self.initial, RunningMetrics.zeros()))
        with unchecked():
            self._step.compile(carry, *steps.pipeline.abstract_train())
        steps.pipeline.load(dataset, *keys)
        (self._chunk,) = steps.pipeline.train_chunks(0, 0)

    def run(self, *counts):
        """Makes a call for each count, of so many steps, from the initial state on.

        Returns:
            The state after them and the mean loss of an image in each call, in host
            memory.
        """
        state, losses = self._devices.place(self.initial), []
        for count in counts:
            carry = (state, self._devices.place(RunningMetrics.zeros()))
            state, metrics = self._step(carry, count, *self._chunk.arrays)
            losses.append(jax.device_get(metrics).mean_loss)
        return jax.device_get(state), np.array(losses)


def assert_same_change(found, expected, initial, tolerance, what):
    """Two trees of arrays went the same way from the initial one.

    Their distance is relative to the way, and a norm over all arrays, because a ReLU
    that opens on one side alone may change a single number by a lot.
    """
    found, expected, initial = map(all_floats, (found, expected, initial))
    way = np.linalg.norm(expected - initial)
    assert np.linalg.norm(found - expected) <= tolerance * way, what


def assert_same_result(workdir, reference):
    """The last arrays of two runs are the same but for rounding."""
    found, expected = final_arrays(workdir), final_arrays(reference)
    zeros = jax.tree.map(np.zeros_like, expected)
    assert_same_change(found, expected, zeros, 1e-2, workdir.name)


def all_floats(tree):
    leaves = [leaf.ravel() for leaf in jax.tree.leaves(tree) if leaf.dtype.kind == "f"]
    return np.concatenate(leaves).astype(np.float64)


def assert_same_training(found, expected, initial, tolerance, what):
    """Two states are those of the same steps from the initial one."""
    assert int(found.step) == int(expected.step)
    for name in ("params", "batch_stats", "opt_state"):
        parts = (getattr(state, name) for state in (found, expected, initial))
        assert_same_change(*parts, tolerance, f"{what}, {name}")
