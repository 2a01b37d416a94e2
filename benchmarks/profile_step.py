"""Which kernels the training step spends its time in.

    python benchmarks/profile_step.py --output profile.md

The step is as ``train.py`` runs it, or a variant as ``step_variants.py`` names it. XLA
leaves its command buffers aside while it is profiled, so each kernel is seen, and
launched, on its own; how fast the step is otherwise is measured before.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence

import arguments as common
import step_changes
import tables
from kernels import Kernel, busy, grouped, kind, seconds, shortened, traced
from rounds import FailedError, with_settings

from jax_resnet.runtime.command_line import run
from jax_resnet.runtime.errors import UserError


def kernel_table(
    heading: str,
    kernels: Sequence[Kernel],
    key: Callable[[str], str],
    steps: int,
    rows: int | None = None,
) -> str:
    """Kernels by what ``key`` makes of their names, in Markdown, the most time first.

    Args:
        heading: of the first column.
        kernels: of all steps.
        key: of a name.
        steps: how many.
        rows: how many groups at the most; the others come together in one more.
    """
    groups = grouped(kernels, key)
    if rows is not None and len(groups) > rows + 1:
        rest = [kernel for _, group in groups[rows:] for kernel in group]
        groups = [*groups[:rows], (f"({len(groups) - rows} more)", rest)]
    total = seconds(kernels)
    cells = [
        (
            name,
            f"{len(group) / steps:,.1f}",
            f"{1e6 * seconds(group) / steps:,.1f}",
            f"{100 * seconds(group) / total:.1f} %",
        )
        for name, group in groups
    ]
    return tables.table((heading, "calls/step", "us/step", "share"), cells)


def totals(
    kernels: Sequence[Kernel], steps: int, *, profiled: float, alone: float
) -> str:
    """What all kernels come to, as a list in Markdown.

    Args:
        kernels: of all steps.
        steps: how many.
        profiled: seconds of these steps.
        alone: seconds of as many that were not profiled.
    """
    working = busy(kernels)
    lines = (
        f"Kernels: {len(kernels) / steps:,.1f} a step, {1e6 * working / steps:,.1f} us "
        f"of a step with at least one at work, {1e6 * seconds(kernels) / steps:,.1f} "
        "us in all",
        f"Profiled: {1e3 * profiled / steps:,.3f} ms a step, busy "
        f"{100 * working / profiled:.1f} % of it",
        f"Not profiled: {1e3 * alone / steps:,.3f} ms a step; the same kernels are "
        f"{100 * working / alone:.1f} % of it",
    )
    return "\n".join(f"- {line}" for line in lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns 0."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    chosen = _parse(arguments)
    program, *flags = chosen.variant.split() or [""]
    change = step_changes.parse(program)
    if flags:
        try:
            # Before JAX looks for devices, which is when XLA reads them.
            os.environ.update(with_settings(os.environ, flags))
        except FailedError as error:
            raise UserError(f"--variant: {error}") from error
    options = common.options(chosen)
    on_cpu = options.device == "cpu"
    fixed = change.steps_per_call
    steps = chosen.steps or fixed or (4 if on_cpu else 40)
    if fixed and steps % fixed:
        raise UserError(f"--steps must be a multiple of {fixed} for {program!r}")
    load = os.getloadavg()[0]

    import jax_variants

    variant = jax_variants.Training(options, change)
    variant.warm_up()
    variant.run(steps)
    started = time.perf_counter()
    variant.run(steps)
    alone = time.perf_counter() - started
    kernels, profiled = traced(lambda: variant.run(steps))
    if not kernels:
        raise UserError("the profiler saw no kernels: check that CUPTI is installed")
    heading = tables.heading(
        "profile_step.py",
        arguments,
        (
            f"Work: {options.describe()}; `{chosen.variant}`: {change.label}",
            f"Profiled: {steps} steps, after as many that were not",
        ),
        load=load,
        versions=variant.versions,
        gpu=variant.gpu,
    )
    parts = (
        heading,
        totals(kernels, steps, profiled=profiled, alone=alone),
        kernel_table("kind, by the name", kernels, kind, steps),
        kernel_table("kernel", kernels, shortened, steps, chosen.rows),
    )
    report = "\n\n".join(parts) + "\n"
    tables.write(report, chosen.output)
    print(report, end="", flush=True)
    return 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = common.training_parser(
        "profile_step.py",
        "Profiles the training step, and prints what its kernels take.",
        dtype="bfloat16",
        steps="40, CPU 4",
    )
    parser.add_argument(
        "--variant", default=step_changes.BASELINE, help="see step_variants.py"
    )
    parser.add_argument("--rows", type=int, default=25, help="of kernels; default 25")
    chosen = parser.parse_args(arguments)
    common.check_training(chosen)
    if chosen.rows < 1:
        raise UserError(f"--rows must be at least 1, not {chosen.rows}")
    return chosen


if __name__ == "__main__":
    run(main)
