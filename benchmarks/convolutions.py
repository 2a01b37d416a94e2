"""The ResNet's 3x3 convolutions and their gradients apart, in JAX and in PyTorch.

    python benchmarks/convolutions.py

On a CPU it shows why training lags behind PyTorch, why the steps are not looped on the
device there, and what a weight gradient made of dot products gives instead. On a GPU,
where one takes microseconds, a call computes many, each of operands of its own, and the
profiler tells what the kernels take without what is between them.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence

import arguments as common
import jax.numpy as jnp
import kernels
import numpy as np
import tables
from convolution_programs import OPERATIONS, Operands, programs, random_operands
from rounds import say

from jax_resnet.checkpoint.history import installed_versions
from jax_resnet.distributed import device
from jax_resnet.runtime.command_line import Parser, run
from jax_resnet.runtime.errors import UserError

LAYERS = ((32, 16), (16, 32), (8, 64))  # side of the image, channels
KERNELS = "jax, its kernels alone"


def measure(
    operands: Operands,
    calls: int,
    rounds: int,
    *,
    on_gpu: bool,
    dtype: str,
    copies: int,
) -> dict[str, dict[str, list[float]]]:
    """Seconds of one, by program, operation and round."""
    found: dict[str, dict[str, list[float]]] = {}
    for operation in OPERATIONS:
        candidates = dict(
            programs(operation, operands, on_gpu=on_gpu, dtype=dtype, copies=copies)
        )
        times: dict[str, list[float]] = {name: [] for name in candidates}
        for _ in range(rounds):
            for name, program in candidates.items():
                program(1)  # Caches and the threads of the one before settle.
                started = time.perf_counter()
                program(calls)
                seconds = time.perf_counter() - started
                times[name].append(seconds / (calls * copies))
        if on_gpu:
            seen, _ = kernels.traced(lambda: candidates["jax"](calls))  # noqa: B023
            if seen:
                times[KERNELS] = [kernels.busy(seen) / (calls * copies)]
        for name, seconds_of_one in times.items():
            found.setdefault(name, {})[operation] = seconds_of_one
    return found


def cell(seconds: Sequence[float], moved: int, *, on_gpu: bool) -> str:
    """The time of one for people, and on a GPU the rate.

    Args:
        seconds: of one, in each round.
        moved: bytes.
        on_gpu: microseconds in place of milliseconds.
    """
    if not seconds:
        return ""
    if not on_gpu:
        return tables.spread([1e3 * each for each in seconds], 1)
    microseconds = tables.spread([1e6 * each for each in seconds], 1)
    return f"{microseconds}, {moved / np.median(seconds) / 1e9:,.0f} GB/s"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns 0."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    chosen = _parse(arguments)
    on_gpu = common.platform(chosen.device) == "gpu"
    selected = device.select("gpu" if on_gpu else "cpu")
    dtype = chosen.dtype or ("bfloat16" if on_gpu else "float32")
    calls = chosen.calls or (20 if on_gpu else 3)
    copies = chosen.copies or (16 if on_gpu else 1)
    load = os.getloadavg()[0]
    busy = not on_gpu and tables.warn_if_busy(load)
    rows: list[tuple[str, ...]] = []
    per_call = f", each of {copies} convolutions" * (copies > 1)
    work: tuple[str, ...] = (
        f"Work: 3x3 convolutions, stride 1, batch {chosen.batch_size}, {dtype}; "
        f"{'micro' if on_gpu else 'milli'}seconds of one",
        f"Median (least to greatest) of {chosen.rounds} rounds of {calls} "
        f"calls{per_call}, programs in turns; each round after an uncounted call",
    )
    if on_gpu:
        work += ("GB/s: of both operands and the result, each moved once",)

    def report() -> str:
        heading = tables.heading(
            "convolutions.py",
            arguments,
            work,
            load=load,
            versions=installed_versions(),
            gpu=device.describe(selected) if on_gpu else "",
        )
        text = f"{heading}\n\n"
        text += tables.table(("channels", "program", *OPERATIONS), rows) + "\n"
        return text + (f"\n- The machine was busy: {tables.BUSY}\n" if busy else "")

    for side, channels in LAYERS:
        layer = f"{channels} at {side}x{side}"
        say(layer)
        operands = random_operands(side, channels, chosen.batch_size)
        measured = measure(
            operands,
            calls,
            chosen.rounds,
            on_gpu=on_gpu,
            dtype=dtype,
            copies=copies,
        )
        moved = sum(each.size for each in operands) * jnp.dtype(dtype).itemsize
        for name, times in measured.items():
            cells = [cell(times.get(o, []), moved, on_gpu=on_gpu) for o in OPERATIONS]
            rows.append((layer, name, *cells))
        tables.write(report(), chosen.output)
    print(report(), end="", flush=True)
    return 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = Parser(
        prog="python benchmarks/convolutions.py",
        description="Measures 3x3 convolutions and their gradients apart.",
    )
    parser.add_argument("--device", choices=("auto", "cpu", "gpu"), default="auto")
    dtypes = ("float32", "bfloat16")
    parser.add_argument("--dtype", choices=dtypes, help="default bfloat16, CPU float32")
    parser.add_argument("--batch-size", type=int, default=128, help="default 128")
    parser.add_argument("--calls", type=int, help="of a round; default 20, CPU 3")
    parser.add_argument(
        "--copies", type=int, help="of operands, all in a call; default 16, CPU 1"
    )
    parser.add_argument("--rounds", type=int, default=5, help="default 5")
    common.add_output(parser)
    chosen = parser.parse_args(arguments)
    common.check_output(chosen)
    for name in ("batch_size", "calls", "copies", "rounds"):
        value = getattr(chosen, name)
        if value is not None and value < 1:
            option = name.replace("_", "-")
            raise UserError(f"--{option} must be at least 1, not {value}")
    return chosen


if __name__ == "__main__":
    run(main)
