"""What the benchmarks print alike: the circumstances, and a table in Markdown."""

import datetime
import os
import platform
import shlex
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

# Seen on two cores at load 9: 6470 ms a step with two threads, 84 ms with one.
BUSY = (
    "PyTorch's threads wait for each other in every operation and lose far more to "
    "other work than XLA's, so compare on an idle machine"
)


def heading(
    program: str,
    arguments: Sequence[str],
    work: Iterable[str],
    *,
    load: float,
    versions: Mapping[str, str],
    gpu: str = "",
) -> str:
    """The command, and what its figures depend on, as a list in Markdown.

    Args:
        program: the file's name.
        arguments: of the command.
        work: what was measured and how, a line each.
        load: the load average before.
        versions: of packages.
        gpu: its name, if one was in use.
    """
    lines = [
        *work,
        f"Hardware: {', '.join(filter(None, (gpu, _cpu())))}; "
        f"load average before: {load:.1f}",
        "Versions: " + ", ".join(f"{name} {v}" for name, v in versions.items()),
        f"Date: {datetime.date.today().isoformat()}",
    ]
    command = shlex.join(["python", f"benchmarks/{program}", *arguments])
    return f"    {command}\n\n" + "\n".join(f"- {line}" for line in lines)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    rule = ["---"] * len(columns)
    lines = [f"| {' | '.join(cells)} |" for cells in (columns, *rows)]
    return "\n".join([lines[0], f"|{'|'.join(rule)}|", *lines[1:]])


def spread(values: Sequence[float], digits: int) -> str:
    """The median (least to greatest)."""
    middle, least, most = statistics.median(values), min(values), max(values)
    return f"{middle:,.{digits}f} ({least:,.{digits}f} to {most:,.{digits}f})"


def write(report: str, path: str | None) -> None:
    """Writes a report to a file, if there is a path for one.

    Benchmarks call it whenever there is more to tell: a time limit then loses little.
    """
    if path:
        Path(path).write_text(report, "utf-8")


def warn_if_busy(load: float) -> bool:
    """Whether other work will disturb PyTorch on this CPU; if so, says it."""
    busy = load > 0.5
    if busy:
        print(f"warning: load average {load:.1f}; {BUSY}", file=sys.stderr, flush=True)
    return busy


def _cpu() -> str:
    model = platform.machine()
    if (information := Path("/proc/cpuinfo")).exists():
        for line in information.read_text("utf-8").splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    return f"{model} with {len(os.sched_getaffinity(0))} cores"
