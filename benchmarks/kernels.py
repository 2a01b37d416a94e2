"""What a device did in a stretch of time: its kernels, from JAX's profiler."""

import re
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import jax

_CONTROL = re.compile(r"(while|call|conditional)(\.\d+)*")  # of other operations
# The first that is found in a name; XLA names a fusion after what it contains.
_KINDS = (
    ("copies and layouts", "memcpy|memset|copy|transpose|nchwtonhwc|nhwctonchw"),
    ("convolutions", "conv(?!ert)|xmma|fprop|dgrad|wgrad|cudnn|implicit|winograd"),
    ("matrix products", "gemm|dot|nvjet|cublas|cutlass"),
    ("fusions that reduce", "reduce"),
    ("other fusions", "fusion|wrapped"),
)


@dataclass(frozen=True)
class Kernel:
    """A kernel or a copy on a GPU, or an operation on a CPU, that ran once.

    Attributes:
        name: as the profiler has it.
        start: nanoseconds.
        end: likewise.
    """

    name: str
    start: float
    end: float


def traced(work: Callable[[], object]) -> tuple[list[Kernel], float]:
    """Runs work that waits for the device; the kernels and the seconds of it."""
    on_cpu = jax.default_backend() == "cpu"
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    # The operations on a CPU are of the host; elsewhere it would only be slowed down.
    options.host_tracer_level = 2 if on_cpu else 1
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder, profiler_options=options):
            started = time.perf_counter()
            work()
            seconds = time.perf_counter() - started
        return read(next(Path(folder).rglob("*.xplane.pb"))), seconds


def read(path: Path) -> list[Kernel]:
    """The kernels in a trace: of the GPUs' streams if there are any, or of the CPU."""
    planes = [*jax.profiler.ProfileData.from_file(str(path)).planes]
    kernels = [
        Kernel(event.name, event.start_ns, event.end_ns)
        for plane in planes
        if plane.name.startswith("/device:GPU")
        for line in plane.lines
        # Other lines tell of the same kernels again, by operation and module.
        if line.name.startswith("Stream")
        for event in line.events
    ]
    return kernels or [
        Kernel(event.name, event.start_ns, event.end_ns)
        for plane in planes
        if plane.name.startswith("/host:CPU")
        for line in plane.lines
        for event in line.events
        if not _CONTROL.fullmatch(event.name)
        and any(name == "hlo_op" for name, _ in event.stats)
    ]


def busy(kernels: Iterable[Kernel]) -> float:
    """Seconds in which at least one of the kernels ran."""
    total = until = 0.0
    for kernel in sorted(kernels, key=lambda kernel: kernel.start):
        total += max(0.0, kernel.end - max(kernel.start, until))
        until = max(until, kernel.end)
    return total / 1e9


def seconds(kernels: Iterable[Kernel]) -> float:
    """The sum of their durations."""
    return sum(kernel.end - kernel.start for kernel in kernels) / 1e9


def grouped(
    kernels: Sequence[Kernel], key: Callable[[str], str]
) -> list[tuple[str, list[Kernel]]]:
    """The kernels by what ``key`` makes of their names, the most time first."""
    groups: dict[str, list[Kernel]] = {}
    for kernel in kernels:
        groups.setdefault(key(kernel.name), []).append(kernel)
    return sorted(groups.items(), key=lambda item: -seconds(item[1]))


def shortened(name: str, width: int = 64) -> str:
    """A name without numbers at its end, arguments and templates, and not too long."""
    name = re.sub(r"[<(].*", "", name.removeprefix("void ")) or name
    name = re.sub(r"([._]\d+)+$", "", name)
    half = (width - 3) // 2
    return name if len(name) <= width else f"{name[:half]}...{name[-half:]}"


def kind(name: str) -> str:
    """What a kernel does, by its name."""
    for found, pattern in _KINDS:
        if re.search(pattern, name.lower()):
            return found
    return "others"
