"""Fixtures: the card under test, and the CPU to compare it with."""

import jax
import numpy as np
import pytest
from card_fixtures import DRY, precision, settings_of, train_on
from command_line import jax_settings_restored

from jax_resnet.distributed import device
from jax_resnet.distributed.mesh import DeviceMesh


@pytest.fixture(scope="session")
def card(pytestconfig):
    """The GPU; in a dry run a device of the CPU that nothing else computes on."""
    if DRY:
        return DeviceMesh((jax.devices("cpu")[1],))
    try:
        return DeviceMesh((jax.devices("gpu")[0],))
    # JAX asserts where a plugin is installed and finds no device.
    except (RuntimeError, AssertionError):
        if pytestconfig.option.markexpr == "gpu":
            raise  # who asks for these tests shall not take skipped ones for passed
        pytest.skip("runs only with -m gpu")


@pytest.fixture(scope="session")
def cpu():
    return DeviceMesh((jax.devices("cpu")[0],))


@pytest.fixture(scope="session", autouse=True)
def exact(card):
    """Multiplies float32 exactly.

    A GPU of compute capability 8.0 or later multiplies it as TF32, of 10 bits, by
    default: rounding would hide other errors.
    """
    with jax_settings_restored(), precision("highest"):
        device.cache_compilations("", card.first)
        yield


@pytest.fixture(scope="session")
def made_on_card(tiny, card, tmp_path_factory):
    """The directory of a run of two epochs."""
    workdir = tmp_path_factory.mktemp("card") / "run"
    return train_on(card, settings_of(tiny), workdir)


@pytest.fixture(scope="session")
def images():
    """Images of the shape that the runs are trained on."""
    return np.random.default_rng(0).integers(0, 256, (24, 32, 32, 3), np.uint8)
