import re
from pathlib import Path

import jax
import pytest

from jax_resnet.runtime.memory import is_out_of_memory, memory_bytes


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Failed to allocate"), True),
        (jax.errors.JaxRuntimeError("INTERNAL: Out of memory allocating 1 B."), True),
        (jax.errors.JaxRuntimeError("INVALID_ARGUMENT: shapes"), False),
    ],
    ids=str,
)
def test_is_out_of_memory(error, expected):
    assert is_out_of_memory(error) == expected


def test_a_cpu_has_the_memory_of_the_machine():
    total = re.search(r"MemTotal: +(\d+) kB", Path("/proc/meminfo").read_text())
    found = memory_bytes(jax.devices("cpu")[0])
    assert found == pytest.approx(1024 * int(total.group(1)), rel=0.01)
