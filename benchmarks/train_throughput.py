"""Training throughput of this package and of PyTorch, measured in one run.

    python benchmarks/train_throughput.py --dtype bfloat16 --output throughput.md

Every variant does the same work, in a process of its own that stays alive: so memory
and compilation are its own, and the rounds take turns, A B C A B C, while the other
processes wait. A machine that slows down for a while slows all of them.
"""

import argparse
import os
import shutil
import sys
from collections.abc import Mapping, Sequence

import arguments as common
import tables
from rounds import Measurement, Result, measure
from variant import LABELS, WARM_UP_STEPS, Options

from jax_resnet.runtime.command_line import run
from jax_resnet.runtime.errors import UserError

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
            f"`{name}`: {LABELS[name.split()[0]]}{used}",
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
    options = common.options(chosen)
    on_gpu = options.device == "gpu"
    steps = chosen.steps or (300 if on_gpu else 5)
    names = chosen.variants or [
        name for name in LABELS if on_gpu or name not in _ON_REQUEST_ON_CPU
    ]
    load = os.getloadavg()[0]
    busy = not on_gpu and tables.warn_if_busy(load)
    memory = "the device's allocator" if on_gpu else "the process and its libraries"
    work = (
        f"Work: {options.describe()}",
        f"Median (least to greatest) of {chosen.rounds} rounds of {steps} steps, "
        f"variants in turns; each round after {max(1, steps // 10)} uncounted steps",
    )

    def report(measured: Measurement) -> str:
        heading = tables.heading(
            "train_throughput.py",
            arguments,
            work,
            load=load,
            versions=measured.versions,
            gpu=measured.gpu,
        )
        text = f"""\
{heading}

{table(measured.results, options, steps)}

Compile and warm-up: to the end of the first {WARM_UP_STEPS} steps, nothing cached. \
Peak memory: of {memory}, from the start, compilation included.
"""
        text += f"\n- The machine was busy: {tables.BUSY}" if busy else ""
        text += "".join(f"\n- `{name}` {note}" for name, note in measured.notes.items())
        return text.rstrip() + "\n"

    measured = measure(
        names,
        options,
        steps=steps,
        rounds=chosen.rounds,
        at_once=chosen.at_once,
        patience=chosen.patience,
        torch_python=chosen.torch_python,
        after_round=lambda measured: tables.write(report(measured), chosen.output),
    )
    tables.write(report(measured), chosen.output)
    print(report(measured), end="", flush=True)
    return int(any(note.startswith("failed") for note in measured.notes.values()))


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    variants = "; ".join(f"{name} ({label})" for name, label in LABELS.items())
    parser = common.training_parser(
        "train_throughput.py",
        "Measures training throughput, ours and PyTorch's, in one run.",
        dtype="float32",
        steps="300, CPU 5",
        at_once=1,
        epilog=f"Variants: {variants}. The default is all, on a CPU without "
        + ", ".join(_ON_REQUEST_ON_CPU),
    )
    parser.add_argument(
        "--variants",
        nargs="+",
        metavar="NAME",
        help="in turns; after a space, variables of its environment: 'NAME X=1'",
    )
    parser.add_argument(
        "--torch-python",
        metavar="PATH",
        default=sys.executable,
        help="the Python of an environment that has PyTorch, if it is another",
    )
    chosen = parser.parse_args(arguments)
    common.check_training(chosen)
    if not shutil.which(chosen.torch_python):
        raise UserError(f"--torch-python: {chosen.torch_python!r} cannot be run")
    for name in chosen.variants or ():
        program, *variables = name.split() or [""]
        common.check_name("variant", program, LABELS)
        if wrong := [each for each in variables if each.find("=") < 1]:
            raise UserError(f"--variants: {wrong[0]!r} is not of the form NAME=VALUE")
    return chosen


if __name__ == "__main__":
    run(main)
