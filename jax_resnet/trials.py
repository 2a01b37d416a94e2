"""What a search trains: recipes over a base config, and the table of what they gave."""

import json
import re
import shlex
import statistics
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from jax_resnet import config
from jax_resnet.errors import UserError, nearest
from jax_resnet.evaluation.page import table
from jax_resnet.report import write_atomically
from jax_resnet.resume import FREE_FIELDS
from jax_resnet.training import Task

# Of no recipe: a search sets them itself, or they change no result.
_COMMON = ("seed", "train.epochs", *FREE_FIELDS)
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


@dataclass(frozen=True)
class Base:
    """What all recipes have in common.

    Attributes:
        path: of the config.
        overrides: of it, as on a command line.
    """

    path: str
    overrides: tuple[str, ...]

    def task(self, recipe: "Recipe", epochs: int, workdir: Path) -> Task:
        """A recipe's run, as if the fields that it sets stood on the command line.

        Args:
            recipe: to train.
            epochs: of the run, with which its schedule ends.
            workdir: of the search.

        Raises:
            UserError: if the recipe sets no field of the config, or to another type.
        """
        own = [
            f"--config.{field}={tuple(value) if isinstance(value, list) else value}"
            for field, value in recipe.fields.items()
        ]
        arguments = [*self.overrides, *own, f"--config.train.epochs={epochs}"]
        try:
            settings = config.load(self.path, arguments)
            found = config.flatten(config.to_json(settings))
            for field, value in recipe.fields.items():
                # A command line would take "5" for 5, and 1 for true.
                is_bool = isinstance(value, bool)
                kind = type(found.get(field)).__name__
                if found.get(field) != value or (kind == "bool") != is_bool:
                    raise UserError(f"{field} must be of type {kind}, not {value!r}")
        except UserError as error:
            raise UserError(f"recipe {recipe.name!r}: {error}") from error
        command = ["python", "-m", "jax_resnet.train", "--config", self.path]
        folder = workdir / recipe.name / f"{epochs}-epochs"
        return Task(settings, folder, recipe.name, shlex.join([*command, *arguments]))


@dataclass(frozen=True)
class Recipe:
    """What is changed in the base config.

    Attributes:
        name: also of its folder.
        why: a comment.
        fields: by dotted name, with values as TOML has them.
    """

    name: str
    why: str
    fields: dict[str, Any]


def read_recipes(path: Path) -> dict[str, Recipe]:
    """The recipes of a TOML file: a table each, of ``why`` and of fields to set.

    Raises:
        UserError: if it is no such file.
    """
    try:
        tables = tomllib.loads(path.read_text())
    except OSError as error:
        raise UserError(f"cannot read {str(path)!r}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{str(path)!r} is not TOML: {error}") from error
    recipes = {}
    for name, content in tables.items():
        named = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_+-]*", name)
        if not named or not isinstance(content, dict):
            raise UserError(
                f"{str(path)!r} must have a table for each recipe, named by letters, "
                f"digits, _, + and -, and has {name!r}"
            )
        why = content.pop("why", "")
        if not isinstance(why, str):
            raise UserError(f"recipe {name!r}: why must be text, not {why!r}")
        try:
            recipes[name] = Recipe(name, why, config.flatten(content))
        except RecursionError as error:
            raise UserError(f"recipe {name!r} is nested too deeply") from error
        for field in recipes[name].fields:
            if field in _COMMON or field.startswith("data."):
                raise UserError(
                    f"recipe {name!r} sets {field}, which is the same for all: set it "
                    "on the command line"
                )
    if not recipes:
        raise UserError(f"{str(path)!r} has no recipe: give each a table")
    return recipes


def ablation(recipes: Mapping[str, Recipe], name: str) -> dict[str, Recipe]:
    """A recipe, the base, and each field taken from the one and given to the other.

    Raises:
        UserError: if there is no such recipe.
    """
    if name not in recipes:
        raise UserError(f"--ablate: no recipe {name!r}{nearest(name, recipes)}")
    full = recipes[name].fields
    if name == "base" and full:
        raise UserError(
            "--ablate: 'base' is what the base is called: name it otherwise"
        )
    variants = [recipes[name], Recipe("base", "no field", {})]
    for field, value in full.items():
        rest = {other: full[other] for other in full if other != field}
        variants += [
            Recipe(f"{name}-without-{field}", f"{name} but for it", rest),
            Recipe(f"base-with-{field}", "it alone", {field: value}),
        ]
    # Of two fields, one alone is the other one left out.
    distinct: dict[str, Recipe] = {}
    for variant in variants:
        if all(variant.fields != other.fields for other in distinct.values()):
            distinct[variant.name] = variant
    return distinct


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
            changes = [*config.differences(kept["config"], self._config, _COMMON)]
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
