"""Fixtures: the card under test, and the CPU to compare it with."""

import jax
import numpy as np
import pytest
from card_fixtures import DRY, Steps, precision, settings_of, train_on

from jax_resnet.distributed import device
from jax_resnet.distributed.mesh import DeviceMesh
from jax_resnet.training.compiled import CompiledSteps
from jax_resnet.training.multi_step import device_loop

KEPT = (
    "jax_default_device",
    "jax_platforms",
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
)


@pytest.fixture(scope="session")
def card():
    """The GPU; in a dry run a device of the CPU that nothing else computes on."""
    if DRY:
        return DeviceMesh((jax.devices("cpu")[1],))
    return DeviceMesh((jax.devices("gpu")[0],))


@pytest.fixture(scope="session")
def cpu():
    return DeviceMesh((jax.devices("cpu")[0],))


@pytest.fixture(scope="session", autouse=True)
def prepared(tiny, card):
    """JAX as these tests need it.

    A GPU of compute capability 8.0 or later multiplies float32 as TF32, of 10 bits,
    unless it is told otherwise: rounding would hide what else is wrong. It is told for
    all threads, where steps are compiled. Programs that were compiled are kept for
    the runs of the same steps.
    """
    before = {name: getattr(jax.config, name) for name in KEPT}
    with pytest.MonkeyPatch.context() as patch, precision("highest"):
        if DRY:
            loop_on(card, patch)
        device.cache_compilations("", card.first)
        yield
    for name, value in before.items():
        jax.config.update(name, value)


def loop_on(card, patch):
    """Has the CPU that stands in for a GPU loop over the steps of a call."""

    def compiled_steps(loss, optimizer, options, pipeline, image_sizes, loop):
        if pipeline.devices == card:
            loop = device_loop
        return CompiledSteps(loss, optimizer, options, pipeline, image_sizes, loop)

    patch.setattr("jax_resnet.training.build.CompiledSteps", compiled_steps)


@pytest.fixture(scope="session")
def on_card(tiny, card):
    """The steps in float32."""
    return Steps(settings_of(tiny), card)


@pytest.fixture(scope="session")
def on_cpu(tiny, cpu):
    return Steps(settings_of(tiny), cpu)


@pytest.fixture(scope="session")
def made_on_card(tiny, card, tmp_path_factory):
    """A run of two epochs."""
    workdir = tmp_path_factory.mktemp("made-on-card") / "run"
    return train_on(card, settings_of(tiny), workdir)


@pytest.fixture(scope="session")
def made_on_cpu(tiny, cpu, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("made-on-cpu") / "run"
    return train_on(cpu, settings_of(tiny), workdir)


@pytest.fixture(scope="session")
def images():
    """Of the shape that the runs are trained on."""
    return np.random.default_rng(0).integers(0, 256, (24, 32, 32, 3), np.uint8)


def pytest_collection_modifyitems(config, items):
    reason = None if DRY else "only with -m gpu"
    if not DRY and config.option.markexpr == "gpu":
        try:
            jax.devices("cuda")
            reason = None
        # JAX asserts where a plugin is installed and finds no device.
        except (RuntimeError, AssertionError):
            reason = "JAX finds no GPU"
    for item in items:
        if reason and item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason=reason))
