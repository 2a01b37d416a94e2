"""The table of what the recipes of a search gave."""

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from jax_resnet import config
from jax_resnet.reporting.markdown import table
from jax_resnet.runtime.errors import UserError
from jax_resnet.runtime.files import write_atomically
from jax_resnet.search.recipes import Base, Recipe, is_common

Row = dict[str, Any]


class _Run(TypedDict):
    diverged: str | None
    holdout_top1: float | None
    test_top1: float | None
    seconds: float
    device: str


class _Spread(TypedDict):
    n: int
    mean: float | None
    std: float | None


class _Row(TypedDict):
    recipe: str
    epochs: int
    why: str
    fields: dict[str, Any]
    state: str
    runs: dict[str, _Run]
    holdout_top1: _Spread
    test_top1: _Spread
    seconds: _Spread


class _Kept(TypedDict):
    config: dict[str, Any]
    rows: list[_Row]


_KEPT = TypeAdapter(_Kept)


class Table:
    """Every run of a workdir's searches: ``recipes.json``, and ``recipes.md`` to read.

    Attributes:
        rows: of each recipe and number of epochs, to be changed in place. ``runs``
            has by seed ``holdout_top1, test_top1, seconds, device`` and ``diverged``,
            which is None, or tells how; without figures then.

    Args:
        workdir: of the search.
        base: of its recipes.
        recipes: now to be trained.

    Raises:
        UserError: if the workdir's table is damaged, or of other recipes.
    """

    def __init__(self, workdir: Path, base: Base, recipes: Mapping[str, Recipe]):
        self._workdir, self._base = workdir, base
        self._config = config.to_json(config.load(base.path, base.overrides))
        self.rows: dict[tuple[str, int], Row] = {}
        path = workdir / "recipes.json"
        if not path.exists():
            return
        try:
            kept = _KEPT.validate_json(path.read_text())
            self.rows = {
                (row["recipe"], row["epochs"]): dict(row) for row in kept["rows"]
            }
            differences = config.differences(kept["config"], self._config)
            changes = [line for f, line in differences.items() if not is_common(f)]
            changes += [
                f"recipe {name!r} is another"
                for (name, _), row in self.rows.items()
                if name in recipes and row["fields"] != recipes[name].fields
            ]
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(
                f"{str(path)!r} is damaged: move it away, and it is made again"
            ) from error
        if changes:
            raise UserError(
                f"{str(workdir)!r} holds another search: {changes[0]}; choose another "
                "--workdir, or another name for the recipe"
            )

    def row(self, recipe: Recipe, epochs: int) -> Row:
        """The row of a recipe's runs of so many epochs."""
        new: Row = {"recipe": recipe.name, "epochs": epochs, "runs": {}}
        row = self.rows.setdefault((recipe.name, epochs), new)
        row.update(why=recipe.why, fields=recipe.fields)
        return row

    def write(self) -> str:
        """Writes both files; returns the page.

        Raises:
            UserError: if they cannot be written.
        """
        rows = list(self.rows.values())
        for row in rows:
            for figure in ("holdout_top1", "test_top1", "seconds"):
                row[figure] = _spread([run[figure] for run in row["runs"].values()])
        as_json = json.dumps({"config": self._config, "rows": rows}, indent=2) + "\n"
        page = self._render(rows)
        for name, text in (("recipes.json", as_json), ("recipes.md", page)):
            write_atomically(self._workdir / name, text.encode())
        return page

    def _render(self, rows: Sequence[Row]) -> str:
        options = self._config["data"]
        devices = {run["device"] for row in rows for run in row["runs"].values()}
        base = " ".join([self._base.path, *self._base.overrides])
        parts = [
            "# Recipes",
            f"Each changes fields of `{base}`. Top-1 (%) is that of a run's last "
            "epoch, with which its schedule ends; ± is the standard deviation of a "
            f"sample of n seeds. {options['holdout']:,} images that were held out of "
            f"`{options['train_split']}` rank the recipes. `{options['eval_split']}` "
            "was measured once, at the end of each run, and selected nothing. Seconds "
            f"are those of one run on {' or '.join(sorted(devices)) or 'the device'}.",
        ]
        header = ["recipe", "n", "holdout top-1", "test top-1", "seconds", "state"]
        for epochs in sorted({row["epochs"] for row in rows}):
            rung = [row for row in rows if row["epochs"] == epochs]
            rung.sort(key=lambda row: -(row["holdout_top1"]["mean"] or 0))
            parts += [f"## {epochs} epochs", table(header, list(map(_cells, rung)))]
        changes = {
            row["recipe"]: [
                row["recipe"],
                ", ".join(f"`{f}` = {v}" for f, v in row["fields"].items()),
                " ".join(row["why"].split()).replace("|", "\\|"),
            ]
            for row in rows
        }
        header = ["recipe", "fields", "why"]
        parts += ["## What each changes", table(header, list(changes.values()))]
        return "\n\n".join(parts) + "\n"


def _spread(values: Sequence[float | None]) -> dict[str, Any]:
    known = [value for value in values if value is not None]
    return {
        "n": len(known),
        "mean": statistics.fmean(known) if known else None,
        "std": statistics.stdev(known) if len(known) > 1 else None,
    }


def _cells(row: Row) -> list[str]:
    seconds = row["seconds"]["mean"]
    return [
        row["recipe"],
        str(row["holdout_top1"]["n"]),
        _percent(row["holdout_top1"]),
        _percent(row["test_top1"]),
        "" if seconds is None else f"{seconds:,.0f}",
        row["state"],
    ]


def _percent(spread: Mapping[str, Any]) -> str:
    if spread["mean"] is None:
        return ""
    deviation = spread["std"]
    text = f"{100 * spread['mean']:.2f}"
    return text if deviation is None else f"{text} ± {100 * deviation:.2f}"
