"""Trains several runs side by side, such as those of ``--seeds``."""

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
from jax_resnet.reporting.markdown import code, table
from jax_resnet.runtime.files import write_atomically
from jax_resnet.runtime.signals import Interrupt
from jax_resnet.runtime.text import say
from jax_resnet.training.run import train
from jax_resnet.training.task import Result, Task

T = TypeVar("T")


def run_each(
    jobs: Sequence[Callable[[DeviceMesh], T]], devices: DeviceMesh, interrupt: Interrupt
) -> list[Future[T | None]]:
    """Runs jobs side by side, each on a device of its own, and waits for all of them.

    Jobs wait in their order for a free device. Once the interrupt is due, no job
    begins any more, and the result of those that have not is None.
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
    """Returns the results of :func:`run_each`; raises the first job's error."""
    return [run.result() for run in runs]


def train_seeds(
    task: Task, seeds: Sequence[int], interrupt: Interrupt
) -> list[Result | None]:
    """Trains a run of each seed in ``WORKDIR/seed-N``, and writes a table of them.

    Each run equals the same run made alone. If one fails, its error is raised once the
    others are done. The result of a seed that did not begin is None.
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
    """Returns the task with another seed, and with a workdir of its own."""
    settings = ConfigDict(task.settings.to_dict())
    settings.seed = seed
    return dataclasses.replace(
        task,
        settings=settings.lock(),
        workdir=task.workdir / f"seed-{seed}",
        command=f"{task.command} {shlex.quote(f'--config.seed={seed}')}",
        say=lambda line: say(f"seed {seed}: {line}"),
    )


def write_table(workdir: Path, results: Mapping[int, Result | None]) -> None:
    """Writes ``seeds.json`` and ``seeds.md`` from the result of each seed."""
    if not workdir.is_dir():  # no run got so far
        return
    rows = {str(seed): _row(result) for seed, result in results.items()}
    done = [row for row in rows.values() if row["complete"]]
    summary: dict[str, Any] = {
        "seeds": rows,
        "complete": len(done) == len(rows),
        "n": len(done),
    }
    for kind in ("last", "best"):
        values = [row[kind] for row in done]
        summary[kind] = {
            "mean": statistics.fmean(values) if values else None,
            "std": statistics.stdev(values) if len(values) > 1 else None,
        }
    splits = (r.metadata.run.eval_name for r in results.values() if r is not None)
    summary["selected_on"] = next(splits, None)
    as_json = json.dumps(summary, indent=2) + "\n"
    write_atomically(workdir / "seeds.json", as_json.encode())
    write_atomically(workdir / "seeds.md", _render(summary).encode())


def _row(result: Result | None) -> dict[str, Any]:
    last, best = (None, None) if result is None else (result.last, result.best)
    return {
        "complete": result is not None and result.stopped_by is None,
        "last": last["val_top1"] if last else None,
        "best": best["val_top1"] if best else None,
        "wall_seconds": result.metadata.clock.wall if result else None,
    }


def _render(summary: dict[str, Any]) -> str:
    rows = []
    for seed, row in summary["seeds"].items():
        name = f"[{seed}](seed-{seed}/log.md)"
        seconds = row["wall_seconds"]
        rows.append(
            (
                name if row["complete"] else f"{name} (unfinished)",
                _percent(row["last"]),
                _percent(row["best"]),
                "" if seconds is None else f"{seconds:,.0f}",
            )
        )
    for name in ("mean", "std"):
        last, best = (_percent(summary[kind][name]) for kind in ("last", "best"))
        rows.append((name, last, best, ""))
    split = code(summary["selected_on"] or "unknown")
    header = ("seed", "last epoch", "best epoch", "seconds")
    return (
        "# Runs of different seeds\n\n"
        f"Top-1 (%) on {split}, which also selected the best epoch. "
        "The standard deviation is that of a sample, "
        f"n = {summary['n']} complete runs.\n\n{table(header, rows)}\n"
    )


def _percent(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{100 * value:.2f}"
