"""Training throughput of this package and of PyTorch, measured in one run.

    python benchmarks/train_throughput.py --dtype bfloat16 --output throughput.md

Every variant does the same work, in a process of its own that stays alive: so memory
and compilation are its own, and the rounds take turns, A B C A B C, while the other
processes wait. A machine that slows down for a while slows all of them.
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import tables
from rounds import Result, measure
from variant import LABELS, TRAIN_IMAGES, WARM_UP_STEPS, Options

from jax_resnet.command import Parser, run
from jax_resnet.errors import UserError, nearest

_MIB = 2**20
# XLA for CPU leaves its fast convolutions aside in a loop, and torch.compile takes
# minutes there.
_ON_REQUEST_ON_CPU = ("ours-loop", "torch-compile", "torch-graph", "torch-augment")


def table(results: Mapping[str, Result], options: Options, steps: int) -> str:
    """The results in Markdown: median (least to greatest) of the rounds."""
    on_gpu = options.device == "gpu"
    timed = ("images/s", "ms/step", "compile and warm-up, s")
    rows = []
    chosen = "ours-loop" if on_gpu else "ours-dispatch"
    for name, result in results.items():
        if not result.rounds:
            continue
        milliseconds = [1e3 * seconds / steps for seconds in result.rounds]
        rates = [1e3 * options.batch_size / each for each in milliseconds]
        used = ", as train.py does" if name == chosen else ""
        cells = (
            f"`{name}`: {LABELS[name]}{used}",
            tables.spread(rates, 0),
            tables.spread(milliseconds, 2),
            f"{result.warm_up:.1f}",
            f"{result.peak_memory / _MIB:,.0f}",
        )
        rows.append(cells)
    return tables.table(("variant", *timed, "peak memory, MiB"), rows)


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
    busy = not on_gpu and tables.warn_if_busy(load)
    measured = measure(names, options, steps=steps, rounds=chosen.rounds)
    memory = "the device's allocator" if on_gpu else "the process and its libraries"
    work = (
        f"Work: ResNet-{options.depth}, batch {options.batch_size}, {options.dtype}, "
        f"augmentation: {options.augment}; forward, backward, SGD with momentum and "
        "weight decay",
        f"Median (least to greatest) of {chosen.rounds} rounds of {steps} steps, "
        f"variants in turns; each round after {max(1, steps // 10)} uncounted steps",
    )
    heading = tables.heading(
        "train_throughput.py",
        arguments,
        work,
        load=load,
        versions=measured.versions,
        gpu=measured.gpu,
    )
    report = f"""\
{heading}

{table(measured.results, options, steps)}

Compile and warm-up: to the end of the first {WARM_UP_STEPS} steps, nothing cached. \
Peak memory: of {memory}, from the start, compilation included.
"""
    report += f"\n- The machine was busy: {tables.BUSY}" if busy else ""
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


if __name__ == "__main__":
    run(main)
