import re
from pathlib import Path

import jax
import pytest

from jax_resnet.runtime.memory import memory_bytes


def test_a_cpu_has_the_memory_of_the_machine():
    total = re.search(r"MemTotal: +(\d+) kB", Path("/proc/meminfo").read_text())
    found = memory_bytes(jax.devices("cpu")[0])
    assert found == pytest.approx(1024 * int(total.group(1)), rel=0.01)
