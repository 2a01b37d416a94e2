"""Compares recipes: ``python -m jax_resnet.search --config FILE --recipes FILE.toml``.

Successive halving (Jamieson, Talwalkar 2015, https://arxiv.org/abs/1502.07943): every
recipe is trained for a few epochs, the better part of them for more, and so on. Images
held out of training select; the test images are measured, and never asked.
"""

import dataclasses
import statistics
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import jax

from jax_resnet import config, data
from jax_resnet.command import Parser, run
from jax_resnet.device import fastest_dtype
from jax_resnet.errors import UserError
from jax_resnet.interrupt import Interrupt
from jax_resnet.metrics import label_ranks
from jax_resnet.parallel import Devices
from jax_resnet.predict import Predictor
from jax_resnet.processes import Processes
from jax_resnet.progress import duration
from jax_resnet.training.build import RunBuilder, describe_data
from jax_resnet.training.loop import DivergedError
from jax_resnet.training.run import train
from jax_resnet.training.seeds import parse_seeds, results_of, run_each, with_seed
from jax_resnet.training.task import Result
from jax_resnet.trial_table import Row, Table
from jax_resnet.trials import Base, Recipe, ablation, parse_rungs, read_recipes
from jax_resnet.workdir import claimed

HOLDOUT = 5000  # images, where neither the command line nor the config says


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options, overrides = _parser().parse_known_args(arguments)
    settings = config.load(options.config, overrides)
    if options.holdout is not None and options.holdout < 1:
        raise UserError(f"--holdout must be at least 1, not {options.holdout}")
    if not 0 < options.keep <= 1:
        raise UserError(f"--keep must be above 0 and at most 1, not {options.keep:g}")
    holdout = options.holdout or settings.data.holdout or HOLDOUT
    base = Base(options.config, (*overrides, f"--config.data.holdout={holdout}"))
    recipes = read_recipes(options.recipes)
    if options.ablate is not None:
        recipes = ablation(recipes, options.ablate)
    rungs = parse_rungs(
        str(settings.train.epochs) if options.epochs is None else options.epochs
    )
    seeds = parse_seeds(options.seeds)
    with Interrupt(options.max_seconds) as interrupt, claimed(options.workdir):
        search = Search(base, recipes, options.workdir, rungs, seeds, interrupt)
        return 0 if search.run(options.keep) else interrupt.exit_code


def _parser() -> Parser:
    parser = Parser(
        prog="python -m jax_resnet.search",
        description="Trains recipes and ranks them on images held out of training; "
        "goes on with the unfinished search in the workdir.",
        epilog="Fields of the base config are set by name, as in "
        "--config.train.batch_size=256",
    )
    parser.add_argument("--config", required=True, help="the base of all recipes")
    parser.add_argument(
        "--recipes",
        required=True,
        type=Path,
        metavar="FILE.toml",
        help="a table for each recipe, of the fields that it sets, such as "
        "optimizer.warmup_epochs = 5.0, and why",
    )
    parser.add_argument("--workdir", type=Path, default=Path("runs/search"))
    parser.add_argument("--seeds", default="0,1,2", help="of each recipe; 0,1,2")
    parser.add_argument(
        "--epochs",
        help="such as 15,50,150: of the runs of each rung; default as the config says",
    )
    parser.add_argument(
        "--keep",
        type=float,
        default=0.5,
        help="the part of the recipes that goes on to the next rung; 0.5",
    )
    parser.add_argument(
        "--holdout",
        type=int,
        help=f"training images that rank; default as the config says, or {HOLDOUT}",
    )
    parser.add_argument(
        "--ablate",
        metavar="RECIPE",
        help="train it, the base, and each of its fields left out and alone instead",
    )
    parser.add_argument(
        "--max-seconds",
        type=float,
        help="save and stop in time to have ended after so many seconds; exit code 75",
    )
    return parser


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
        self._devices = Devices.select(settings.train.device, settings.mesh.devices)
        described = describe_data(settings)
        info, self._test = data.load_split(
            settings.data.name,
            settings.data.eval_split,
            data_dir=settings.data.dir or None,
            cache_dir=settings.data.cache_dir or None,
        )
        one = Devices((self._devices.first,))
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

    def _train(self, row: Row, seed: int, devices: Devices) -> bool:
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
        record, last = result.record, result.last
        assert last is not None
        with self._lock:
            self._start_seconds = max(self._start_seconds, record.compile_seconds)
        # By its step: in place of a damaged latest checkpoint another one is taken.
        model = Predictor.restore(result.workdir, str(last["step"]))
        ranks = label_ranks(model.logits(self._test.images), self._test.labels)
        return {
            "holdout_top1": last["val_top1"],
            "test_top1": float((ranks < 1).mean()),
            "seconds": record.clock.wall,
            "device": record.run.device,
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


if __name__ == "__main__":
    run(main)
