"""Successive halving (Jamieson, Talwalkar 2015, https://arxiv.org/abs/1502.07943).

Each rung trains recipes for more epochs than the one before, and promotes the best of
them. Held-out training images rank the recipes. The test images are not used.
"""

import dataclasses
import threading
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from jax_resnet import config
from jax_resnet.distributed.mesh import DeviceMesh
from jax_resnet.distributed.processes import Processes
from jax_resnet.reporting.progress import duration
from jax_resnet.runtime.errors import UserError
from jax_resnet.runtime.jax_settings import fixed_settings
from jax_resnet.runtime.signals import Interrupt
from jax_resnet.runtime.text import say
from jax_resnet.search.recipes import BaseConfig, Recipe
from jax_resnet.search.table import Row, RunResult, write_table
from jax_resnet.training.build import check
from jax_resnet.training.loop import DivergedError
from jax_resnet.training.resume import resume_point
from jax_resnet.training.run import train
from jax_resnet.training.seeds import results_of, run_each, with_seed
from jax_resnet.training.task import Task


def promote(scores: Mapping[str, float | None], keep: float) -> list[str]:
    """Returns the names of the best scores, best first; None is never promoted.

    At least one of the names is kept, else this fraction of all of them.
    """
    valid = {name: score for name, score in scores.items() if score is not None}
    ranked = sorted(valid, key=valid.__getitem__, reverse=True)
    return ranked[: max(1, int(keep * len(scores)))]


class Search:
    """Trains and ranks recipes, in a workdir that it has for itself.

    Runs that are complete are not trained again.
    """

    def __init__(
        self,
        base: BaseConfig,
        recipes: Mapping[str, Recipe],
        workdir: Path,
        seeds: Sequence[int],
        interrupt: Interrupt,
    ):
        self._base, self._recipes, self._workdir = base, recipes, workdir
        self._seeds, self._interrupt = seeds, interrupt
        self._rows: list[Row] = []
        self._lock = threading.Lock()  # guards the rows
        self._compile_seconds = 0.0  # of the run that took longest
        settings = config.load(base.path, base.overrides)
        self._devices = DeviceMesh.select(settings.train.device, settings.mesh.devices)

    def run(self, rungs: Sequence[int], keep: float) -> bool:
        """Trains the recipes, rung by rung; returns whether all runs are complete.

        The rungs are rising numbers of epochs, and ``keep`` is the fraction of a rung's
        recipes to promote to the next. Raises UserError if a recipe cannot be trained,
        before any is; if a run failed, once the others of its rung are done; or if all
        of a rung diverged.
        """
        for recipe in self._recipes.values():
            self._check(recipe, rungs)
        names = list(self._recipes)
        for epochs in rungs:
            rung = [Row(self._recipes[name], epochs, self._seeds) for name in names]
            self._rows += rung
            self._write_table()
            jobs = [partial(self._train, row, s) for row in rung for s in self._seeds]
            results = results_of(run_each(jobs, self._devices, self._interrupt))
            if not all(results):  # None stands for a run that did not begin
                return False
            names = promote({row.recipe.name: row.score for row in rung}, keep)
            if not names:
                raise UserError(
                    f"every recipe of {epochs} epochs diverged: try a lower "
                    "optimizer.learning_rate"
                )
            if epochs != rungs[-1]:
                for row in rung:
                    row.promoted = row.recipe.name in names
        print(self._write_table())
        return True

    @fixed_settings()
    def _check(self, recipe: Recipe, rungs: Sequence[int]) -> None:
        """Builds a recipe's run without training it.

        Raises UserError if that fails, or the workdir has a run of another config.
        """
        tasks = [self._task(recipe, rung, s) for rung in rungs for s in self._seeds]
        try:
            check(tasks[0].settings, DeviceMesh((self._devices.first,)))
        except UserError as error:
            raise UserError(f"recipe {recipe.name!r}: {error}") from error
        for task in tasks:
            resume_point(task.workdir, config.to_json(task.settings))

    def _task(self, recipe: Recipe, epochs: int, seed: int) -> Task:
        return with_seed(self._base.task(recipe, epochs, self._workdir), seed)

    def _train(self, row: Row, seed: int, devices: DeviceMesh) -> bool:
        """Trains one run; returns whether it is complete."""
        if self._interrupt.is_due(self._compile_seconds):
            return False
        name = f"{row.recipe.name}, {row.epochs} epochs, seed {seed}"

        def say_warning(line: str) -> None:
            # The other lines, of all epochs, are in the logs of the runs.
            if line.startswith("warning"):
                say(f"{name}: {line}")

        task = self._task(row.recipe, row.epochs, seed)
        task = dataclasses.replace(task, say=say_warning)
        say(f"{name}: begins")
        started = time.monotonic()
        try:
            result = train(task, Processes(), self._interrupt, devices)
            if result.stopped_by is not None:
                say(f"{name}: stopped; the same command resumes")
                return False
            metadata = result.metadata
            self._compile_seconds = max(self._compile_seconds, metadata.compile_seconds)
            top1 = metadata.history[-1]["val_top1"]
            found = RunResult(top1, metadata.clock.wall, metadata.run.device)
            outcome = f"{100 * top1:.2f} % top-1 on the holdout"
        except DivergedError as error:
            outcome = str(error).partition(":")[0]
            seconds = time.monotonic() - started
            found = RunResult(None, seconds, devices.describe(), diverged=outcome)
        except UserError as error:
            raise UserError(f"{name}: {error}") from error
        with self._lock:
            row.runs[seed] = found
            self._write_table()
        say(f"{name}: {outcome}, {duration(found.seconds)}")
        return True

    def _write_table(self) -> str:
        return write_table(self._workdir, self._base, self._rows)
