"""Training throughput of this package and of PyTorch, measured in one run.

    python benchmarks/train_throughput.py --dtype bfloat16 --output throughput.md

Every variant does the same work, in a process of its own that stays alive: so memory
and compilation are its own, and the rounds take turns, A B C A B C, while the other
processes wait. A machine that slows down for a while slows all of them.
"""

import argparse
import datetime
import os
import platform
import shlex
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
from rounds import Result, measure
from variant import LABELS, TRAIN_IMAGES, WARM_UP_STEPS, Options

from jax_resnet.command import Parser, run
from jax_resnet.errors import UserError, nearest

_MIB = 2**20
# XLA for CPU leaves its fast convolutions aside in a loop, and torch.compile takes
# minutes there.
_ON_REQUEST_ON_CPU = ("ours-loop", "torch-compile", "torch-graph", "torch-augment")
# Seen on two cores at load 9: 6470 ms a step with two threads, 84 ms with one.
_BUSY = (
    "PyTorch's threads wait for each other in every operation and lose far more to "
    "other work than XLA's, so compare on an idle machine"
)


def table(results: Mapping[str, Result], options: Options, steps: int) -> str:
    """The results in Markdown: median (least to greatest) of the rounds."""
    on_gpu = options.device == "gpu"
    lines = [
        "| variant | images/s | ms/step | compile and warm-up, s | peak memory, MiB |",
        "|---|---|---|---|---|",
    ]
    chosen = "ours-loop" if on_gpu else "ours-dispatch"
    for name, result in results.items():
        if not result.rounds:
            continue
        milliseconds = [1e3 * seconds / steps for seconds in result.rounds]
        rates = [1e3 * options.batch_size / each for each in milliseconds]
        used = ", as train.py does" if name == chosen else ""
        cells = (
            f"`{name}`: {LABELS[name]}{used}",
            _spread(rates, 0),
            _spread(milliseconds, 2),
            f"{result.warm_up:.1f}",
            f"{result.peak_memory / _MIB:,.0f}",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns 0, or 1 where a variant failed."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    chosen = _parse(arguments)
    options = Options(
        device=_platform(chosen.device),
        depth=chosen.depth,
        batch_size=chosen.batch_size,
        dtype=chosen.dtype,
        augment=chosen.augment,
    )
    on_gpu = options.device == "gpu"
    steps = chosen.steps or (300 if on_gpu else 5)
    names = chosen.variants or [
        name for name in LABELS if on_gpu or name not in _ON_REQUEST_ON_CPU
    ]
    load = os.getloadavg()[0]
    busy = not on_gpu and load > 0.5
    if busy:
        print(f"warning: load average {load:.1f}; {_BUSY}", file=sys.stderr, flush=True)
    measured = measure(names, options, steps=steps, rounds=chosen.rounds)
    command = shlex.join(["python", "benchmarks/train_throughput.py", *arguments])
    hardware = ", ".join(filter(None, (measured.gpu, _cpu())))
    versions = ", ".join(f"{name} {v}" for name, v in measured.versions.items())
    memory = "the device's allocator" if on_gpu else "the process and its libraries"
    report = f"""\
    {command}

- Work: ResNet-{options.depth}, batch {options.batch_size}, {options.dtype}, \
augmentation: {options.augment}; forward, backward, SGD with momentum and weight decay
- Median (least to greatest) of {chosen.rounds} rounds of {steps} steps, variants in \
turns; each round after {max(1, steps // 10)} uncounted steps
- Hardware: {hardware}; load average before: {load:.1f}
- Versions: {versions}
- Date: {datetime.date.today().isoformat()}

{table(measured.results, options, steps)}

Compile and warm-up: to the end of the first {WARM_UP_STEPS} steps, nothing cached. \
Peak memory: of {memory}, from the start, compilation included.
"""
    report += f"\n- The machine was busy: {_BUSY}" if busy else ""
    report += "".join(f"\n- `{name}` {note}" for name, note in measured.notes.items())
    report = report.rstrip() + "\n"
    print(report, end="", flush=True)
    if chosen.output:
        Path(chosen.output).write_text(report)
    return int(any(note.startswith("failed") for note in measured.notes.values()))


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    variants = "; ".join(f"{name} ({label})" for name, label in LABELS.items())
    parser = Parser(
        prog="python benchmarks/train_throughput.py",
        description="Measures training throughput, ours and PyTorch's, in one run.",
        epilog=f"Variants: {variants}. The default is all, on a CPU without "
        + ", ".join(_ON_REQUEST_ON_CPU),
    )
    parser.add_argument("--device", choices=("auto", "cpu", "gpu"), default="auto")
    parser.add_argument("--depth", type=int, default=56, help="6n+2; default 56")
    parser.add_argument("--batch-size", type=int, default=128, help="default 128")
    dtypes = ("float32", "bfloat16")
    parser.add_argument("--dtype", choices=dtypes, default="float32")
    parser.add_argument("--augment", choices=("none", "recipe"), default="recipe")
    parser.add_argument("--steps", type=int, help="of a round; default 300, CPU 5")
    parser.add_argument("--rounds", type=int, default=5, help="default 5")
    parser.add_argument("--variants", nargs="+", metavar="NAME", help="in turns")
    parser.add_argument("--output", metavar="FILE.md", help="write the report, too")
    chosen = parser.parse_args(arguments)
    if chosen.depth < 8 or (chosen.depth - 2) % 6:
        raise UserError(f"--depth must be 6n+2 with n >= 1, not {chosen.depth}")
    if not 1 <= chosen.batch_size <= TRAIN_IMAGES:
        raise UserError(
            f"--batch-size must be 1 to {TRAIN_IMAGES}, not {chosen.batch_size}"
        )
    for name in ("steps", "rounds"):
        value = getattr(chosen, name)
        if value is not None and value < 1:
            raise UserError(f"--{name} must be at least 1, not {value}")
    for name in chosen.variants or ():
        if name not in LABELS:
            known = ", ".join(LABELS)
            raise UserError(
                f"there is no variant {name!r}{nearest(name, LABELS) or ': ' + known}"
            )
    if chosen.output and not Path(chosen.output).resolve().parent.is_dir():
        raise UserError(f"--output: there is no folder for {chosen.output!r}")
    return chosen


def _platform(kind: str) -> str:
    if kind == "cpu":
        return "cpu"
    # Else this process would take most of the GPU's memory.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    try:
        found = jax.devices("gpu" if kind == "gpu" else None)[0].platform
    except RuntimeError:
        raise UserError(
            f"--device {kind}: JAX finds no such device; check nvidia-smi, or use "
            "--device cpu"
        ) from None
    return "cpu" if found == "cpu" else "gpu"


def _cpu() -> str:
    model = platform.machine()
    if (information := Path("/proc/cpuinfo")).exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    return f"{model} with {len(os.sched_getaffinity(0))} cores"


def _spread(values: Sequence[float], digits: int) -> str:
    middle, least, most = statistics.median(values), min(values), max(values)
    return f"{middle:,.{digits}f} ({least:,.{digits}f} to {most:,.{digits}f})"


if __name__ == "__main__":
    run(main)
