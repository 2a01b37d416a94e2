import re
from pathlib import Path

import jax
import pytest

from jax_resnet import memory
from jax_resnet.errors import UserError

MIB = 2**20


def step_bytes(batch_size):
    return (100 + 2 * batch_size) * MIB


def explain(mebibytes, error, batch_size=512):
    block = memory.exhaustion_explained(batch_size, step_bytes, lambda: mebibytes * MIB)
    with pytest.raises(UserError) as caught, block:
        raise error
    return str(caught.value)


EXHAUSTED = [
    MemoryError(),
    jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Failed to allocate 1 bytes"),
    jax.errors.JaxRuntimeError("INTERNAL: Out of memory allocating 1 bytes."),
]


@pytest.mark.parametrize("error", EXHAUSTED, ids=str)
def test_the_largest_batch_is_that_of_the_arithmetic(error):
    text = explain(600, error)
    assert "a step of 512 images takes 1.10 GiB of the 0.59 GiB" in text
    fits = int(re.search(r"(\d+) images would fit", text).group(1))
    assert step_bytes(fits) <= 0.95 * 600 * MIB < step_bytes(fits + 1)


def test_a_batch_for_several_devices_is_a_multiple_of_them():
    block = memory.exhaustion_explained(512, step_bytes, lambda: 600 * MIB, unit=24)
    with pytest.raises(UserError) as caught, block:
        raise MemoryError
    fits = int(re.search(r"(\d+) images would fit", str(caught.value)).group(1))
    assert fits % 24 == 0
    assert step_bytes(fits) <= 0.95 * 600 * MIB < step_bytes(fits + 24)


def test_a_model_that_is_too_large():
    assert "not even 1 would fit: use a smaller model" in explain(90, MemoryError())


def test_a_batch_that_should_fit():
    assert "what else uses this memory?" in explain(4000, MemoryError())


def test_other_errors_are_left_alone():
    block = memory.exhaustion_explained(8, step_bytes, lambda: MIB)
    with pytest.raises(jax.errors.JaxRuntimeError, match="INVALID"), block:
        raise jax.errors.JaxRuntimeError("INVALID_ARGUMENT: shapes")


def test_a_cpu_has_the_memory_of_the_machine():
    found = memory.available_bytes(jax.devices("cpu")[0])
    total = re.search(r"MemTotal: +(\d+) kB", Path("/proc/meminfo").read_text())
    assert found == pytest.approx(1024 * int(total.group(1)), rel=0.01)
