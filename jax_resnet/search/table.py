"""The table of a search: ``recipes.json``, and ``recipes.md`` to read."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from jax_resnet import config
from jax_resnet.reporting.markdown import table
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
    def score(self) -> float | None:
        """The mean holdout top-1; None if a run is missing or diverged."""
        summary = _summary([run.holdout_top1 for run in self.runs.values()])
        return summary["mean"] if summary["n"] == len(self.seeds) else None

    @property
    def state(self) -> str:
        """``unfinished``, ``diverged``, ``finished``, ``kept`` or ``stopped``."""
        if len(self.runs) < len(self.seeds):
            return "unfinished"
        if self.score is None:
            return "diverged"
        return {None: "finished", True: "kept", False: "stopped"}[self.promoted]

    def as_dict(self) -> dict[str, Any]:
        """Returns the row for JSON."""
        runs = self.runs.values()
        return {
            "recipe": self.recipe.name,
            "epochs": self.epochs,
            "why": self.recipe.why,
            "fields": self.recipe.fields,
            "state": self.state,
            "runs": {str(seed): asdict(run) for seed, run in self.runs.items()},
            "holdout_top1": _summary([run.holdout_top1 for run in runs]),
            "seconds": _summary([run.seconds for run in runs]),
        }


def write_table(workdir: Path, base: BaseConfig, rows: Sequence[Row]) -> str:
    """Writes both files; returns the page."""
    settings = config.to_json(config.load(base.path, base.overrides))
    as_dicts = [row.as_dict() for row in rows]
    page = _render(base, settings["data"], as_dicts)
    text = json.dumps({"config": settings, "rows": as_dicts}, indent=2) + "\n"
    write_atomically(workdir / "recipes.json", text.encode())
    write_atomically(workdir / "recipes.md", page.encode())
    return page


def _render(
    base: BaseConfig, data: dict[str, Any], rows: Sequence[dict[str, Any]]
) -> str:
    devices = sorted({run["device"] for row in rows for run in row["runs"].values()})
    parts = [
        "# Recipes",
        f"Each recipe changes fields of `{' '.join([base.path, *base.overrides])}`. "
        f"Top-1 (%) is that of a run's last epoch, on {data['holdout']:,} images held "
        f"out of `{data['train_split']}`; ± is the sample standard deviation over n "
        f"seeds. Seconds are those of one run on {' or '.join(devices)}.",
    ]
    header = ["recipe", "n", "holdout top-1", "seconds", "state"]
    for epochs in sorted({row["epochs"] for row in rows}):
        rung = [row for row in rows if row["epochs"] == epochs]
        rung.sort(key=lambda row: -(row["holdout_top1"]["mean"] or 0))
        parts += [f"## {epochs} epochs", table(header, list(map(_cells, rung)))]
    changes = {
        row["recipe"]: [
            row["recipe"],
            ", ".join(f"`{name}` = {value}" for name, value in row["fields"].items()),
            " ".join(row["why"].split()),
        ]
        for row in rows
    }
    header = ["recipe", "fields", "why"]
    parts += ["## Changed fields", table(header, list(changes.values()))]
    return "\n\n".join(parts) + "\n"


def _cells(row: dict[str, Any]) -> list[str]:
    top1, seconds = row["holdout_top1"], row["seconds"]["mean"]
    spread = "" if top1["std"] is None else f" ± {100 * top1['std']:.2f}"
    return [
        row["recipe"],
        str(top1["n"]),
        "" if top1["mean"] is None else f"{100 * top1['mean']:.2f}{spread}",
        "" if seconds is None else f"{seconds:,.0f}",
        row["state"],
    ]


def _summary(values: Sequence[float | None]) -> dict[str, Any]:
    known = [value for value in values if value is not None]
    return {
        "n": len(known),
        "mean": statistics.fmean(known) if known else None,
        "std": statistics.stdev(known) if len(known) > 1 else None,
    }
