"""Running out of memory, on the device or the machine."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager

import jax

from jax_resnet.runtime.errors import UserError


@contextmanager
def exhaustion_explained(batch_size: int) -> Iterator[None]:
    """Turns running out of memory in training into one line that says what to do.

    Raises:
        UserError: in place of the device's error, or of Python's.
    """
    try:
        yield
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if not is_exhaustion(error):
            raise
        raise UserError(
            f"out of memory with batches of {batch_size} images: lower "
            "--config.train.batch_size, or keep it and raise "
            "--config.train.accumulation; or use a smaller model"
        ) from error


def is_exhaustion(error: BaseException) -> bool:
    """Whether an error of Python or JAX says that there is not enough memory."""
    signs = ("RESOURCE_EXHAUSTED", "Out of memory")
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in signs)


def available_bytes(device: jax.Device) -> int:
    """Memory of a device that this process may use; of a CPU, that it may still use."""
    statistics = device.memory_stats() or {}
    if limit := statistics.get("bytes_limit"):
        return limit
    page = os.sysconf("SC_PAGE_SIZE")
    physical = os.sysconf("SC_PHYS_PAGES") * page
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return physical
    with open("/proc/self/statm") as file:  # noqa: PTH123
        used = int(file.read().split()[0]) * page
    return min(physical, limit - used)
