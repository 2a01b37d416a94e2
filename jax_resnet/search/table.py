"""The table of a search: ``recipes.json``, and ``recipes.md`` to read."""

import json
import shlex
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from jax_resnet import config
from jax_resnet.reporting.markdown import code, plain, table
from jax_resnet.runtime.files import write_atomically
from jax_resnet.search.recipes import BaseConfig, Recipe


@dataclass(frozen=True)
class RunResult:
    """The result of a finished run."""

    holdout_top1: float | None  # of the last epoch; None if the run diverged
    seconds: float  # time that the run took
    device: str
    diverged: str | None = None  # describes the divergence; None if there was none


@dataclass
class Row:
    """A recipe on a rung."""

    recipe: Recipe
    epochs: int  # of each run
    seeds: Sequence[int]  # one for each run
    # results of the finished runs, by seed
    runs: dict[int, RunResult] = field(default_factory=dict)
    # whether the recipe goes on to the next rung; None if it is undecided
    promoted: bool | None = None

    @property
    def holdout_top1(self) -> dict[str, Any]:
        """Number, mean and deviation of the accuracies of runs that did not diverge."""
        return _summary([run.holdout_top1 for run in self.runs.values()])

    @property
    def score(self) -> float | None:
        """The mean holdout top-1; None if a run is missing or diverged."""
        summary = self.holdout_top1
        return summary["mean"] if summary["n"] == len(self.seeds) else None

    @property
    def state(self) -> str:
        """``unfinished``, ``diverged``, ``finished``, ``kept`` or ``stopped``."""
        if len(self.runs) < len(self.seeds):
            return "unfinished"
        if self.score is None:
            return "diverged"
        return {None: "finished", True: "kept", False: "stopped"}[self.promoted]


def write_table(workdir: Path, base: BaseConfig, rows: Sequence[Row]) -> str:
    """Writes both files; returns the page."""
    settings = config.to_json(config.load(base.path, base.overrides))
    page = _render(base, settings["data"], rows)
    content = {
        "config": settings,
        "rows": [
            {
                "recipe": row.recipe.name,
                "epochs": row.epochs,
                "why": row.recipe.why,
                "fields": row.recipe.fields,
                "state": row.state,
                "runs": {str(seed): asdict(run) for seed, run in row.runs.items()},
                "holdout_top1": row.holdout_top1,
                "seconds": _summary([run.seconds for run in row.runs.values()]),
            }
            for row in rows
        ],
    }
    text = json.dumps(content, indent=2) + "\n"
    write_atomically(workdir / "recipes.json", text.encode())
    write_atomically(workdir / "recipes.md", page.encode())
    return page


def _render(base: BaseConfig, data: dict[str, Any], rows: Sequence[Row]) -> str:
    devices = sorted({run.device for row in rows for run in row.runs.values()})
    changed = code(shlex.join([base.path, *base.overrides]))
    split = code(data["train_split"])
    parts = [
        "# Recipes",
        f"Each recipe changes fields of {changed}. Top-1 (%) is that of a run's last "
        f"epoch, on {data['holdout']:,} images held out of {split}; ± is the sample "
        "standard deviation over n seeds. Seconds are those of one run on "
        f"{plain(' or '.join(devices))}.",
    ]
    header = ["recipe", "n", "holdout top-1", "seconds", "state"]
    for epochs in sorted({row.epochs for row in rows}):
        rung = [row for row in rows if row.epochs == epochs]
        rung.sort(key=lambda row: -(row.holdout_top1["mean"] or 0))
        parts += [f"## {epochs} epochs", table(header, list(map(_cells, rung)))]
    changes = {}
    for recipe in (row.recipe for row in rows):
        fields = [f"{code(n)} = {plain(str(v))}" for n, v in recipe.fields.items()]
        why = plain(" ".join(recipe.why.split()))
        changes[recipe.name] = [plain(recipe.name), ", ".join(fields), why]
    header = ["recipe", "fields", "why"]
    parts += ["## Changed fields", table(header, list(changes.values()))]
    return "\n\n".join(parts) + "\n"


def _cells(row: Row) -> list[str]:
    top1, seconds = row.holdout_top1, [run.seconds for run in row.runs.values()]
    spread = "" if top1["std"] is None else f" ± {100 * top1['std']:.2f}"
    return [
        plain(row.recipe.name),
        str(top1["n"]),
        "" if top1["mean"] is None else f"{100 * top1['mean']:.2f}{spread}",
        f"{statistics.fmean(seconds):,.0f}" if seconds else "",
        row.state,
    ]


def _summary(values: Sequence[float | None]) -> dict[str, Any]:
    known = [value for value in values if value is not None]
    return {
        "n": len(known),
        "mean": statistics.fmean(known) if known else None,
        "std": statistics.stdev(known) if len(known) > 1 else None,
    }
