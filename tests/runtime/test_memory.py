import re
from pathlib import Path

import jax
import pytest

from jax_resnet.runtime import memory


def test_a_cpu_has_the_memory_of_the_machine():
    total = re.search(r"MemTotal: +(\d+) kB", Path("/proc/meminfo").read_text())
    found = memory.memory_bytes(jax.devices("cpu")[0])
    assert found == pytest.approx(1024 * int(total.group(1)), rel=0.01)


@pytest.mark.parametrize(
    "support, tunables, lacks",
    [
        ("always [madvise] never", None, True),
        ("always [madvise] never", "glibc.malloc.check=0", True),
        ("always [madvise] never", "glibc.malloc.hugetlb=1", False),
        ("[always] madvise never", None, False),
        ("always madvise [never]", None, False),
        (None, None, False),
    ],
)
def test_huge_pages_lack_where_glibc_should_ask(
    support, tunables, lacks, tmp_path, monkeypatch
):
    monkeypatch.setattr(memory, "_SUPPORT", tmp_path / "enabled")
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    if support:
        (tmp_path / "enabled").write_text(support)
    if tunables:
        monkeypatch.setenv("GLIBC_TUNABLES", tunables)
    assert memory.lacks_huge_pages() == lacks
