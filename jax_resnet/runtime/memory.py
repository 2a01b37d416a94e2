"""Memory of devices, its pages, and errors that say it has run out."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # it takes seconds
    import jax

_TUNABLE = "glibc.malloc.hugetlb"
HUGE_PAGES = f"GLIBC_TUNABLES={_TUNABLE}=1"  # has glibc ask for huge pages
_SUPPORT = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def is_out_of_memory(error: BaseException) -> bool:
    """Returns whether an error of Python or JAX means that memory ran out."""
    signs = ("RESOURCE_EXHAUSTED", "Out of memory")
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in signs)


def memory_bytes(device: "jax.Device") -> int:
    """Returns the memory that a device may use; for a CPU, that of the machine."""
    statistics = device.memory_stats() or {}
    return statistics.get("bytes_limit") or physical_memory_bytes()


def physical_memory_bytes() -> int:
    """Returns the memory of the machine."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def lacks_huge_pages() -> bool:
    """Returns whether Linux would give this process huge pages if glibc asked for them.

    glibc reads ``GLIBC_TUNABLES`` when a process starts, so the process itself cannot
    change it any more.
    """
    try:
        on_request = "[madvise]" in _SUPPORT.read_text("utf-8")
    except OSError:
        return False
    return on_request and _TUNABLE not in os.getenv("GLIBC_TUNABLES", "")
