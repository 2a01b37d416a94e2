import re
from pathlib import Path

import jax
import pytest

from jax_resnet.runtime import memory
from jax_resnet.runtime.errors import UserError

EXHAUSTED = [
    MemoryError(),
    jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Failed to allocate 1 bytes"),
    jax.errors.JaxRuntimeError("INTERNAL: Out of memory allocating 1 bytes."),
]


@pytest.mark.parametrize("error", EXHAUSTED, ids=str)
def test_exhaustion_is_one_line_of_advice(error):
    with (
        pytest.raises(UserError, match=r"512 images: lower --config.train.batch_size"),
        memory.exhaustion_explained(512),
    ):
        raise error


def test_other_errors_are_left_alone():
    with (
        pytest.raises(jax.errors.JaxRuntimeError, match="INVALID"),
        memory.exhaustion_explained(8),
    ):
        raise jax.errors.JaxRuntimeError("INVALID_ARGUMENT: shapes")


def test_a_cpu_has_the_memory_of_the_machine():
    found = memory.available_bytes(jax.devices("cpu")[0])
    total = re.search(r"MemTotal: +(\d+) kB", Path("/proc/meminfo").read_text())
    assert found == pytest.approx(1024 * int(total.group(1)), rel=0.01)
