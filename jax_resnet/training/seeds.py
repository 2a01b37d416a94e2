"""Runs side by side, each on its device; and a table of the same run's seeds."""

import dataclasses
import json
import math
import queue
import shlex
import statistics
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import jax
from ml_collections import ConfigDict

from jax_resnet.distributed.mesh import DeviceMesh
from jax_resnet.distributed.processes import Processes
from jax_resnet.runtime.errors import UserError
from jax_resnet.runtime.files import write_atomically
from jax_resnet.runtime.signals import Interrupt
from jax_resnet.training.run import train
from jax_resnet.training.task import Result, Task

T = TypeVar("T")


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
    jobs: Sequence[Callable[[DeviceMesh], T]], devices: DeviceMesh, interrupt: Interrupt
) -> list[Future[T | None]]:
    """Runs jobs side by side, each on a device of its own.

    Where there are fewer devices than jobs, jobs wait for one, in their order.

    Args:
        jobs: each takes its device.
        devices: the devices to share out.
        interrupt: once it is due, jobs that have not begun do not.

    Returns:
        For each job its result, None if it did not begin, or the error that it raised;
        all are over.
    """
    free: queue.SimpleQueue[jax.Device] = queue.SimpleQueue()
    for device in devices.devices:
        free.put(device)

    def run_one(job: Callable[[DeviceMesh], T]) -> T | None:
        device = free.get()
        try:
            if interrupt.is_due(0.0):
                return None
            with jax.default_device(device):
                return job(DeviceMesh((device,)))
        finally:
            free.put(device)

    with ThreadPoolExecutor(devices.count) as pool:
        return [pool.submit(run_one, job) for job in jobs]


def results_of(runs: Sequence[Future[T]]) -> list[T]:
    """The results of :func:`run_each`'s jobs.

    Raises:
        UserError: of the first job that failed.
    """
    failures = [error for run in runs if (error := run.exception())]
    if failures:
        raise failures[0]
    return [run.result() for run in runs]


def train_seeds(
    task: Task, seeds: Sequence[int], interrupt: Interrupt
) -> list[Result | None]:
    """Trains a run of each seed in ``WORKDIR/seed-N``, and writes a table of them.

    Each run equals the same run made alone.

    Args:
        task: the run; only seed, workdir and command differ.
        seeds: different ones.
        interrupt: says when all runs have to stop.

    Returns:
        How the run of each seed ended; None for one that did not begin.

    Raises:
        UserError: of a run that failed, once the others are done.
    """
    settings = task.settings
    devices = DeviceMesh.select(settings.train.device, settings.mesh.devices)
    jobs = [
        partial(train, with_seed(task, seed), Processes(), interrupt) for seed in seeds
    ]
    runs = run_each(jobs, devices, interrupt)
    ended = (None if run.exception() else run.result() for run in runs)
    write_table(task.workdir, dict(zip(seeds, ended, strict=True)))
    return results_of(runs)


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


def write_table(workdir: Path, results: Mapping[int, Result | None]) -> None:
    """Writes ``seeds.json`` and ``seeds.md``.

    Args:
        workdir: the folder of all runs.
        results: how the run of each seed ended; None for one without a result.

    Raises:
        UserError: if they cannot be written.
    """
    rows = {str(seed): _row(result) for seed, result in results.items()}
    done = [row for row in rows.values() if row["complete"]]
    table: dict[str, Any] = {
        "seeds": rows,
        "complete": len(done) == len(rows),
        "n": len(done),
    }
    for kind in ("last", "best"):
        values = [row[kind] for row in done]
        table[kind] = {
            "mean": statistics.fmean(values) if values else None,
            "std": statistics.stdev(values) if len(values) > 1 else None,
        }
    splits = (r.metadata.run.eval_name for r in results.values() if r is not None)
    table["selected_on"] = next(splits, None)
    if not workdir.is_dir():  # no run got so far
        return
    as_json = json.dumps(table, indent=2) + "\n"
    write_atomically(workdir / "seeds.json", as_json.encode())
    write_atomically(workdir / "seeds.md", _render(table).encode())


def _row(result: Result | None) -> dict[str, Any]:
    last, best = (None, None) if result is None else (result.last, result.best)
    return {
        "complete": result is not None and result.stopped_by is None,
        "last": last["val_top1"] if last else None,
        "best": best["val_top1"] if best else None,
        "wall_seconds": result.metadata.clock.wall if result else None,
    }


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
