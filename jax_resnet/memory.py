"""How large a batch fits into the device's memory, by estimate."""

import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import jax

from jax_resnet.errors import UserError

_GIB = 2**30


@contextmanager
def exhaustion_explained(
    batch_size: int,
    step_bytes: Callable[[int], int],
    available_bytes: Callable[[], int],
    *,
    unit: int = 1,
) -> Iterator[None]:
    """Turns running out of memory into an error that names a batch that would fit.

    Args:
        batch_size: of the training steps that the block runs.
        step_bytes: what a compiled step of a given batch size takes of a device; it
            grows by the same number of bytes for each image.
        available_bytes: what there is of one.
        unit: what the size of a batch is a multiple of.

    Raises:
        UserError: in place of the device's error, or of Python's.
    """
    try:
        yield
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if is_exhaustion(error):
            advice = _advice(batch_size, available_bytes(), step_bytes, unit)
            raise UserError(f"out of memory: {advice}") from error
        raise


def is_exhaustion(error: BaseException) -> bool:
    """Whether an error of Python or JAX says that there is not enough memory."""
    signs = ("RESOURCE_EXHAUSTED", "Out of memory")
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in signs)


def _advice(
    batch_size: int, available: int, step_bytes: Callable[[int], int], unit: int
) -> str:
    one, few = unit, 9 * unit
    per_image = (step_bytes(few) - step_bytes(one)) / (few - one)
    rest = step_bytes(one) - one * per_image
    # What is left over and where it lies is not known: a twentieth is for that.
    fits = int((0.95 * available - rest) // per_image) // unit * unit
    needs = (rest + batch_size * per_image) / _GIB
    estimate = (
        f"by estimate a step of {batch_size} images takes {needs:.2f} GiB of the "
        f"{available / _GIB:.2f} GiB that there are"
    )
    if fits < 1:
        return f"{estimate}, and not even {unit} would fit: use a smaller model"
    if fits >= batch_size:
        return f"{estimate}: what else uses this memory? Or try a smaller batch"
    return (
        f"{estimate}, and {fits} images would fit: set --config.train.batch_size={fits}"
        " or less, or keep the batch and raise --config.train.accumulation"
    )


def available_bytes(device: jax.Device) -> int:
    """What this process may use of a device's memory; of a CPU's, may still use."""
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
