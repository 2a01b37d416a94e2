"""Runs side by side, each on its device; and a table of the same run's seeds."""

import dataclasses
import json
import math
import queue
import shlex
import statistics
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from jax_resnet.errors import UserError
from jax_resnet.interrupt import Interrupt
from jax_resnet.parallel import Devices
from jax_resnet.processes import Processes
from jax_resnet.report import read_summary, write_atomically
from jax_resnet.training import Task, train


def parse_seeds(text: str) -> list[int]:
    """The seeds of ``0,1,2``.

    Raises:
        UserError: if it is no list of different whole numbers from 0 to 2**32 - 1.
    """
    try:
        seeds = [int(part) for part in text.split(",")]
    except ValueError:
        seeds = []
    in_range = all(0 <= seed < 2**32 for seed in seeds)
    if not seeds or not in_range or len(set(seeds)) < len(seeds):
        raise UserError(
            f"--seeds must be different whole numbers such as 0,1,2, not {text!r}"
        )
    return seeds


def run_each(
    jobs: Sequence[Callable[[Devices], int]], devices: Devices, interrupt: Interrupt
) -> list[Future[int]]:
    """Runs jobs side by side, each on a device of its own.

    Where there are fewer devices than jobs, jobs wait for one, in their order.

    Args:
        jobs: each takes its device and returns an exit code.
        devices: to share out.
        interrupt: once it is due, jobs that have not begun do not.

    Returns:
        Of each job its exit code, or the error that it raised; all are over.
    """
    free: queue.SimpleQueue[jax.Device] = queue.SimpleQueue()
    for device in devices.all:
        free.put(device)

    def run_one(job: Callable[[Devices], int]) -> int:
        device = free.get()
        try:
            if interrupt.is_due(0.0):
                return interrupt.exit_code
            with jax.default_device(device):
                return job(Devices((device,)))
        finally:
            free.put(device)

    with ThreadPoolExecutor(devices.count) as pool:
        return [pool.submit(run_one, job) for job in jobs]


def exit_code_of(runs: Sequence[Future[int]]) -> int:
    """The exit code of :func:`run_each`'s jobs together.

    Raises:
        UserError: of the first that failed.
    """
    failures = [error for run in runs if (error := run.exception())]
    if failures:
        raise failures[0]
    return max((run.result() for run in runs), default=0)


def train_seeds(task: Task, seeds: Sequence[int], interrupt: Interrupt) -> int:
    """Trains a run of each seed in ``WORKDIR/seed-N``, and writes a table of them.

    Each gives what it would give alone.

    Args:
        task: of which each run differs in seed, workdir and command.
        seeds: different ones.
        interrupt: noticed by all runs.

    Returns:
        The exit code.

    Raises:
        UserError: of a run that failed, once the others are done.
    """
    settings = task.settings
    devices = Devices.select(settings.train.device, settings.mesh.devices)
    jobs = [
        partial(train, with_seed(task, seed), Processes(), interrupt) for seed in seeds
    ]
    runs = run_each(jobs, devices, interrupt)
    write_table(task.workdir, seeds)
    return exit_code_of(runs)


def with_seed(task: Task, seed: int) -> Task:
    """The run of a task with a seed, in a folder of its own; it says which it is."""
    settings = ConfigDict(task.settings.to_dict())
    settings.seed = seed
    return dataclasses.replace(
        task,
        settings=settings.lock(),
        workdir=_folder(task.workdir, seed),
        command=f"{task.command} {shlex.quote(f'--config.seed={seed}')}",
        say=lambda line: print(f"seed {seed}: {line}", flush=True),
    )


def _folder(workdir: Path, seed: int) -> Path:
    return workdir / f"seed-{seed}"


def write_table(workdir: Path, seeds: Sequence[int]) -> None:
    """Writes ``seeds.json`` and ``seeds.md`` from the summaries of the runs.

    Raises:
        UserError: if they cannot be written.
    """
    summaries = [read_summary(_folder(workdir, seed)) for seed in seeds]
    table: dict[str, Any] = {"seeds": {}, "complete": True}
    for seed, summary in zip(seeds, summaries, strict=True):
        complete = summary.get("complete") is True
        table["complete"] = table["complete"] and complete
        table["seeds"][str(seed)] = {
            "complete": complete,
            **{
                kind: summary[kind]["val_top1"] if summary.get(kind) else None
                for kind in ("last", "best")
            },
            "wall_seconds": summary.get("wall_seconds"),
        }
    done = [row for row in table["seeds"].values() if row["complete"]]
    table["n"] = len(done)
    for kind in ("last", "best"):
        values = [row[kind] for row in done]
        table[kind] = {
            "mean": statistics.fmean(values) if values else None,
            "std": statistics.stdev(values) if len(values) > 1 else None,
        }
    table["selected_on"] = next(
        (s["selected_on"] for s in summaries if "selected_on" in s), None
    )
    if not workdir.is_dir():  # no run got so far
        return
    as_json = json.dumps(table, indent=2) + "\n"
    write_atomically(workdir / "seeds.json", as_json.encode())
    write_atomically(workdir / "seeds.md", _render(table).encode())


def _render(table: dict[str, Any]) -> str:
    split = table["selected_on"]
    lines = [
        "# Runs of different seeds",
        "",
        f"Top-1 (%) on `{split}`, which also selected the best epoch. The standard "
        f"deviation is that of a sample, n = {table['n']} complete runs.",
        "",
        "| seed | last epoch | best epoch | seconds |",
        "| ---: | ---: | ---: | ---: |",
    ]
    for seed, row in table["seeds"].items():
        name = f"[{seed}](seed-{seed}/log.md)"
        if not row["complete"]:
            name += " (unfinished)"
        seconds = row["wall_seconds"]
        lines.append(
            f"| {name} | {_percent(row['last'])} | {_percent(row['best'])} "
            f"| {'' if seconds is None else f'{seconds:,.0f}'} |"
        )
    for name in ("mean", "std"):
        cells = (_percent(table[kind][name]) for kind in ("last", "best"))
        lines.append(f"| {name} | {' | '.join(cells)} | |")
    return "\n".join(lines) + "\n"


def _percent(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{100 * value:.2f}"
