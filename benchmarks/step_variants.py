"""The training step against itself with one thing changed, and under XLA's flags.

    python benchmarks/step_variants.py --groups loops parts --output variants.md

Variants run in turns in processes of their own, the step as it is among those of each
group. What is faster in every round is put together at the end. A variant is a change,
or several joined by ``+``, and XLA's flags after it, for its process alone:

    python benchmarks/step_variants.py \
        --variants "scan+rbg --xla_gpu_enable_command_buffer=+WHILE"
"""

import argparse
import os
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence

import arguments as common
import step_changes
import tables
from rounds import Measurement, Result, measure, say
from step_changes import BASELINE, CHANGES, LOOPS, PARTS
from variant import WARM_UP_STEPS

from jax_resnet.runtime.command_line import run
from jax_resnet.runtime.errors import UserError

_MIB = 2**20
_BUFFERS = "--xla_gpu_enable_command_buffer"
_UNROLLED = "--xla_gpu_command_buffer_unroll_loops=true"
_SMALLEST = "--xla_gpu_graph_min_graph_size=1"
# A plus adds to the commands that are on by default, and a plain list replaces them.
_GRAPHS = (
    f"{BASELINE} {_BUFFERS}=",
    f"{BASELINE} {_BUFFERS}=+CONVOLUTION",
    f"{BASELINE} {_BUFFERS}=+WHILE",
    f"{BASELINE} {_BUFFERS}=+CONVOLUTION,+WHILE",
    f"{BASELINE} {_UNROLLED}",
    f"{BASELINE} {_SMALLEST}",
    f"dispatch {_BUFFERS}=+CONVOLUTION",
    f"dispatch {_BUFFERS}=+CONVOLUTION {_SMALLEST}",
    f"scan {_BUFFERS}=+CONVOLUTION,+WHILE",
    f"scan {_BUFFERS}=+CONVOLUTION,+WHILE {_UNROLLED}",
)
_FLAGS = (
    f"{BASELINE} --xla_gpu_experimental_enable_conv_fusion=true",
    f"{BASELINE} --xla_gpu_force_conv_nhwc=true",
    f"{BASELINE} --xla_gpu_experimental_enable_fusion_autotuner=true",
    *(f"{BASELINE} --xla_gpu_autotune_level={level}" for level in range(5)),
    f"{BASELINE} --xla_gpu_deterministic_ops=true",
    f"{BASELINE} --xla_gpu_enable_triton_gemm=false",
    f"{BASELINE} --xla_gpu_enable_latency_hiding_scheduler=true",
)
GROUPS: dict[str, tuple[str, ...]] = {
    "loops": tuple(LOOPS),
    "parts": tuple(PARTS),
    "graphs": _GRAPHS,
    "flags": _FLAGS,
}
# They serve something else than speed, which their own rows show the price of.
_ALONE = ("--xla_gpu_autotune_level", "--xla_gpu_deterministic_ops")


def ratios(results: Mapping[str, Result], name: str) -> list[float]:
    """The time of a variant over the baseline's, for each round that both have."""
    if BASELINE not in results:
        return []
    rounds = zip(results[name].rounds, results[BASELINE].rounds, strict=False)
    return [seconds / baseline for seconds, baseline in rounds]


def combinations(results: Mapping[str, Result]) -> list[str]:
    """The variants to measure once each has been measured alone.

    All the flags that there are, of each the fastest value; those that were faster than
    the baseline in every round; the changes that were; and both.
    """
    ratio = {n: ratios(results, n) for n in results if n != BASELINE}
    # The slowest first: of two that exclude each other the later one stays.
    order = sorted(
        (n for n in ratio if ratio[n]), key=lambda n: statistics.median(ratio[n])
    )[::-1]
    faster = [name for name in order if max(ratio[name]) < 1]

    def flags(names: Sequence[str]) -> str:
        chosen = {}
        for program, *given in (name.split() for name in names):
            if program == BASELINE and len(given) == 1:
                chosen[given[0].partition("=")[0]] = given[0]
        return " ".join(v for k, v in chosen.items() if k not in _ALONE)

    loop = [name for name in faster if name in LOOPS][-1:]
    parts: dict[tuple[str, ...], str] = {}
    for name in faster:
        if name in PARTS and PARTS[name].candidate:
            parts[step_changes.fields(PARTS[name])] = name
    changes = "+".join([*loop, *parts.values()]) or BASELINE
    wanted = (
        f"{BASELINE} {flags(order)}",
        f"{BASELINE} {flags(faster)}",
        changes,
        f"{changes} {flags(faster)}",
    )
    return [n for n in dict.fromkeys(map(str.strip, wanted)) if n not in results]


def section(title: str, measured: Measurement, batch_size: int, steps: int) -> str:
    """The table of a group in Markdown, and what became of the others."""
    rows = []
    for name, result in measured.results.items():
        if not result.rounds:
            continue
        milliseconds = [1e3 * seconds / steps for seconds in result.rounds]
        compared = ratios(measured.results, name) if name != BASELINE else []
        rows.append(
            (
                _described(name),
                tables.spread(milliseconds, 3),
                tables.spread(compared, 3) if compared else "",
                f"{1e3 * batch_size / statistics.median(milliseconds):,.0f}",
                f"{result.warm_up:.1f}",
                f"{result.peak_memory / _MIB:,.0f}",
            )
        )
    columns = ("variant", "ms/step", "of the baseline's time", "images/s")
    cost = ("compile and warm-up, s", "peak memory, MiB")
    notes = [f"- `{name}` {note}" for name, note in measured.notes.items()]
    return "\n".join(
        [f"### {title}", "", tables.table((*columns, *cost), rows), "", *notes]
    )


def _described(name: str) -> str:
    program, *flags = name.split()
    if program == BASELINE and flags:
        return f"`{' '.join(flags)}`"
    label = step_changes.parse(program).label
    return f"`{name}`: {label}"


def _groups(chosen: argparse.Namespace, dtype: str) -> Iterator[tuple[str, list[str]]]:
    if chosen.variants:
        yield "variants", [BASELINE, *chosen.variants]
        return
    for group in chosen.groups:
        # What is the baseline's already is no change.
        yield group, [BASELINE, *(name for name in GROUPS[group] if name != dtype)]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns 0, or 1 where a baseline failed."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    chosen = _parse(arguments)
    options = common.options(chosen)
    on_gpu = options.device == "gpu"
    chosen.groups = chosen.groups or (list(GROUPS) if on_gpu else ["parts"])
    steps = chosen.steps or (200 if on_gpu else 5)
    groups = dict(_groups(chosen, options.dtype))
    _check_steps(steps, [name for names in groups.values() for name in names])
    load = os.getloadavg()[0]
    work = (
        f"Work: {options.describe()}",
        f"Median (least to greatest) of {chosen.rounds} rounds of {steps} steps, the "
        f"variants of a table in turns; each round after {max(1, steps // 10)} or "
        "more uncounted steps",
        "Of the baseline's time: its round beside each round",
        f"Compile and warm-up: to the end of the first {WARM_UP_STEPS} or more steps, "
        f"{chosen.at_once} variants beside each other",
    )
    found = Measurement()
    sections: dict[str, str] = {}

    def keep(group: str, measured: Measurement) -> None:
        found.versions, found.gpu = measured.versions, measured.gpu
        sections[group] = section(group, measured, options.batch_size, steps)
        tables.write(report(), chosen.output)

    def report() -> str:
        heading = tables.heading(
            "step_variants.py",
            arguments,
            work,
            load=load,
            versions=found.versions,
            gpu=found.gpu,
        )
        parts = [part.rstrip() for part in (heading, *sections.values())]
        return "\n\n".join(parts) + "\n"

    def run_group(group: str, names: Sequence[str]) -> None:
        say(f"{group}: {len(names)} variants")
        measured = measure(
            names,
            options,
            steps=steps,
            rounds=chosen.rounds,
            at_once=chosen.at_once,
            patience=chosen.patience,
            after_round=lambda measured: keep(group, measured),
        )
        keep(group, measured)
        found.notes |= measured.notes
        if BASELINE not in measured.notes:
            # Each group has been compared with its own; any will do for the names.
            for name, result in measured.results.items():
                compared = ratios(measured.results, name)
                found.results[name] = Result(result.warm_up, compared)

    for group, names in groups.items():
        run_group(group, names)
    together = combinations(found.results) if not chosen.variants else []
    if together:
        run_group("together", [BASELINE, *together])
    print(report(), end="", flush=True)
    return int(BASELINE in found.notes)


def _check_steps(steps: int, names: Sequence[str]) -> None:
    for name in names:
        fixed = step_changes.parse(name.split()[0]).steps_per_call
        if fixed and steps % fixed:
            raise UserError(f"--steps must be a multiple of {fixed} for {name!r}")


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    changes = "; ".join(f"{name} ({c.label})" for name, c in CHANGES.items())
    parser = common.training_parser(
        "step_variants.py",
        "Measures changes to the training step, and flags of XLA's.",
        dtype="bfloat16",
        steps="200, CPU 5",
        at_once=max(1, len(os.sched_getaffinity(0)) // 2),
        epilog=f"Changes: {changes}",
    )
    parser.add_argument(
        "--groups",
        nargs="+",
        metavar="GROUP",
        help=f"of {', '.join(GROUPS)}; default all, CPU parts",
    )
    parser.add_argument(
        "--variants",
        nargs="+",
        metavar="NAME",
        help="in place of groups: changes joined by +, and XLA's flags after a space",
    )
    chosen = parser.parse_args(arguments)
    common.check_training(chosen)
    for group in chosen.groups or ():
        common.check_name("group", group, GROUPS)
    for name in chosen.variants or ():
        program, *flags = name.split() or [""]
        step_changes.parse(program)
        if wrong := [flag for flag in flags if not flag.startswith("--")]:
            raise UserError(f"--variants: {wrong[0]!r} is no flag of XLA's")
    return chosen


if __name__ == "__main__":
    run(main)
