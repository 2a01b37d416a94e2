"""Successive halving: trains recipes, and gives the better ones more epochs.

Successive halving (Jamieson, Talwalkar 2015, https://arxiv.org/abs/1502.07943): every
recipe is trained for a few epochs, the better part of them for more, and so on. Images
held out of training select; the test images are measured, and never asked.
"""

import dataclasses
import statistics
import threading
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import jax

from jax_resnet import config, data
from jax_resnet.distributed.device import fastest_dtype
from jax_resnet.distributed.mesh import DeviceMesh
from jax_resnet.distributed.processes import Processes
from jax_resnet.evaluation.metrics import label_ranks
from jax_resnet.predict import Predictor
from jax_resnet.reporting.progress import duration
from jax_resnet.runtime.errors import UserError
from jax_resnet.runtime.signals import Interrupt
from jax_resnet.search.recipes import Base, Recipe
from jax_resnet.search.table import Row, Table
from jax_resnet.training.build import RunBuilder, describe_data
from jax_resnet.training.loop import DivergedError
from jax_resnet.training.run import train
from jax_resnet.training.seeds import results_of, run_each, with_seed
from jax_resnet.training.task import Result


class Search:
    """Recipes to be trained, after checking that all of them can be.

    Args:
        base: of the recipes.
        recipes: by name.
        workdir: of the search; this process's alone.
        rungs: epochs, rising.
        seeds: of each recipe on each rung.
        interrupt: noticed by all runs.

    Raises:
        UserError: if a recipe cannot be trained, or the workdir holds another search.
    """

    def __init__(
        self,
        base: Base,
        recipes: Mapping[str, Recipe],
        workdir: Path,
        rungs: Sequence[int],
        seeds: Sequence[int],
        interrupt: Interrupt,
    ):
        self._recipes, self._rungs, self._seeds = recipes, rungs, seeds
        self._interrupt = interrupt
        self._tasks = {
            (recipe.name, epochs): base.task(recipe, epochs, workdir)
            for recipe in recipes.values()
            for epochs in rungs
        }
        self._table = Table(workdir, base, recipes)
        self._lock = threading.Lock()  # of the table
        self._epochs_left = self._epochs_done = 0
        self._seconds = 0.0  # that those done here took
        self._start_seconds = 0.0  # that a run may take before its first step
        settings = config.load(base.path, base.overrides)
        self._devices = DeviceMesh.select(settings.train.device, settings.mesh.devices)
        described = describe_data(settings)
        info, self._test = data.load_split(
            settings.data.name,
            settings.data.eval_split,
            data_dir=settings.data.dir or None,
            cache_dir=settings.data.cache_dir or None,
        )
        one = DeviceMesh((self._devices.first,))
        for name in recipes:
            settings = self._tasks[name, rungs[0]].settings
            fastest = fastest_dtype(self._devices.first)
            settings = config.with_dtype(settings, fastest)
            builder = RunBuilder(
                settings, one, info, described.n_train, described.n_eval
            )
            try:
                builder.with_initial_model(builder.build(jax.random.key(0)).state)
            except UserError as error:
                raise UserError(f"recipe {name!r}: {error}") from error

    def run(self, keep: float) -> bool:
        """Trains what the table lacks, rung by rung.

        Args:
            keep: the part of a rung's recipes that goes on to the next, at least one.

        Returns:
            Whether all runs are complete.

        Raises:
            UserError: of a run that failed, once the others of its rung are done; or
                if every recipe of a rung diverged.
        """
        entrants = list(self._recipes.values())
        for rung, epochs in enumerate(self._rungs):
            rows = [self._table.row(recipe, epochs) for recipe in entrants]
            kept = max(1, int(keep * len(rows)))
            self._epochs_left = sum(
                later * len(self._seeds) * max(1, int(keep**more * len(rows)))
                for more, later in enumerate(self._rungs[rung:])
            )
            if not self._train_all(rows):
                return False
            sound = filter(self._is_sound, rows)
            ranked = sorted(sound, key=self._holdout_top1, reverse=True)
            if not ranked:
                raise UserError(
                    f"every recipe of {epochs} epochs diverged: try a lower "
                    "optimizer.learning_rate"
                )
            if rung + 1 == len(self._rungs):
                break
            for place, row in enumerate(ranked):
                row["state"] = "kept" if place < kept else "stopped"
            entrants = [self._recipes[row["recipe"]] for row in ranked[:kept]]
        print(self._table.write())
        return True

    def _train_all(self, rows: Sequence[Row]) -> bool:
        jobs = []
        for row in rows:
            missing = [s for s in self._seeds if str(s) not in row["runs"]]
            if missing:
                row["state"] = "unfinished"
            self._epochs_left -= row["epochs"] * (len(self._seeds) - len(missing))
            jobs += [partial(self._train, row, seed) for seed in missing]
        self._table.write()
        results = results_of(run_each(jobs, self._devices, self._interrupt))
        return all(results)  # None is a run that did not begin

    def _is_sound(self, row: Row) -> bool:
        return not any(row["runs"][str(seed)]["diverged"] for seed in self._seeds)

    def _holdout_top1(self, row: Row) -> float:
        # The table may have more seeds, of other searches.
        runs = (row["runs"][str(seed)] for seed in self._seeds)
        return statistics.fmean(run["holdout_top1"] for run in runs)

    def _train(self, row: Row, seed: int, devices: DeviceMesh) -> bool:
        """Trains and measures one run; returns whether it came to its end."""
        name = f"{row['recipe']}, {row['epochs']} epochs, seed {seed}"

        def say(line: str) -> None:
            # The epochs of all runs would be thousands of lines; they are in the logs.
            if line.startswith("warning"):
                print(f"{name}: {line}", flush=True)

        task = with_seed(self._tasks[row["recipe"], row["epochs"]], seed)
        task = dataclasses.replace(task, say=say)
        if self._interrupt.is_due(self._start_seconds):
            return False
        self._say(f"{name}: begins")
        started = time.monotonic()
        found: Row = {"diverged": None, "holdout_top1": None, "test_top1": None}
        try:
            result = train(task, Processes(), self._interrupt, devices)
            if result.stopped_by is not None:
                self._say(f"{name}: stopped; the same command resumes")
                return False
            found |= self._measure(result)
            outcome = f"{100 * found['holdout_top1']:.2f} % top-1 on the holdout"
        except DivergedError as error:
            found["diverged"] = outcome = str(error).partition(":")[0]
            found |= {
                "seconds": time.monotonic() - started,
                "device": devices.describe(),
            }
        except UserError as error:
            raise UserError(f"{name}: {error}") from error
        self._enter(row, seed, found, seconds=time.monotonic() - started)
        self._say(f"{name}: {outcome}, {duration(time.monotonic() - started)}")
        return True

    def _measure(self, result: Result) -> Row:
        metadata, last = result.metadata, result.last
        assert last is not None
        with self._lock:
            self._start_seconds = max(self._start_seconds, metadata.compile_seconds)
        # By its step: in place of a damaged latest checkpoint another one is taken.
        model = Predictor.open(result.workdir, str(last["step"]))
        ranks = label_ranks(model.logits(self._test.images), self._test.labels)
        return {
            "holdout_top1": last["val_top1"],
            "test_top1": float((ranks < 1).mean()),
            "seconds": metadata.clock.wall,
            "device": metadata.run.device,
        }

    def _enter(self, row: Row, seed: int, found: Row, *, seconds: float) -> None:
        """Enters a run into the table, and its seconds into the estimate."""
        with self._lock:
            row["runs"][str(seed)] = found
            if all(str(seed) in row["runs"] for seed in self._seeds):
                row["state"] = "finished" if self._is_sound(row) else "diverged"
            self._epochs_left -= row["epochs"]
            if not found["diverged"]:
                self._epochs_done += row["epochs"]
                self._seconds += seconds
            self._table.write()

    def _say(self, line: str) -> None:
        if self._epochs_done:
            pace = self._seconds / self._epochs_done
            left = pace * self._epochs_left / self._devices.count
            line += f"; about {duration(left)} left"
        # In one piece, as other threads print too.
        print(line + "\n", end="", flush=True)
