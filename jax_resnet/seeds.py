"""The same run with several seeds: a table of mean and standard deviation."""

import dataclasses
import json
import math
import queue
import shlex
import statistics
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
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


def train_seeds(task: Task, seeds: Sequence[int], interrupt: Interrupt) -> int:
    """Trains a run of each seed in ``WORKDIR/seed-N``, and writes a table of them.

    Each run has a device to itself, and gives what it would give alone. Where there
    are fewer devices than seeds, runs wait for one.

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
    selected = Devices.select(settings.train.device, settings.mesh.devices)
    free: queue.SimpleQueue[jax.Device] = queue.SimpleQueue()
    for device in selected.all:
        free.put(device)

    def run_one(seed: int) -> int:
        device = free.get()
        try:
            if interrupt.is_due(0):
                return interrupt.exit_code
            with jax.default_device(device):
                one = Devices((device,))
                return train(_with_seed(task, seed), Processes(), interrupt, one)
        finally:
            free.put(device)

    with ThreadPoolExecutor(min(len(seeds), selected.count)) as pool:
        runs = {seed: pool.submit(run_one, seed) for seed in seeds}
    write_table(task.workdir, seeds)
    failures = [error for run in runs.values() if (error := run.exception())]
    if failures:
        raise failures[0]
    return max(run.result() for run in runs.values())


def _with_seed(task: Task, seed: int) -> Task:
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
