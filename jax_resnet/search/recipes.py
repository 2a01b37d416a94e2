"""Recipes: named changes to the fields of a base config."""

import itertools
import re
import shlex
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jax_resnet import config
from jax_resnet.runtime.errors import UserError

if TYPE_CHECKING:  # it takes seconds
    from jax_resnet.training.task import Task


@dataclass(frozen=True)
class Recipe:
    """A change to the base config."""

    name: str  # also the name of its folder
    why: str  # a comment
    fields: dict[str, Any]  # new values by dotted name, as TOML has them


@dataclass(frozen=True)
class BaseConfig:
    """The config that all recipes change."""

    path: str
    overrides: tuple[str, ...]  # command-line arguments such as ``--config.seed=1``

    def task(self, recipe: Recipe, epochs: int, workdir: Path) -> "Task":
        """Returns the training run of a recipe, under the workdir of the search.

        Raises UserError if a field does not exist or has the wrong type.
        """
        from jax_resnet.training.task import Task

        arguments = [
            *self.overrides,
            *(f"--config.{name}={_literal(v)}" for name, v in recipe.fields.items()),
            f"--config.train.epochs={epochs}",
        ]
        try:
            settings = config.load(self.path, arguments)
        except UserError as error:
            raise UserError(f"recipe {recipe.name!r}: {error}") from error
        command = ["python", "-m", "jax_resnet.train", "--config", self.path]
        folder = workdir / recipe.name / f"{epochs}-epochs"
        return Task(settings, folder, recipe.name, shlex.join([*command, *arguments]))


def _literal(value: Any) -> str:
    return str(tuple(value) if isinstance(value, list) else value)


def read_recipes(path: Path) -> dict[str, Recipe]:
    """Reads a TOML file with a table for each recipe; returns recipes by name.

    Raises UserError if it is not such a file, or sets a field that all share.
    """
    try:
        tables = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {str(path)!r}: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{str(path)!r} is not TOML: {error}") from error
    recipes = {}
    for name, table in tables.items():
        if not re.fullmatch(r"[\w+-]+", name) or not isinstance(table, dict):
            raise UserError(
                f"{str(path)!r} must have a table for each recipe, named by letters, "
                f"digits, _, + and -, and has {name!r}"
            )
        why = str(table.pop("why", ""))
        recipes[name] = Recipe(name, why, config.flatten(table))
        for field in recipes[name].fields:
            changes_no_result = config.resume_rule(field) is config.Resume.ALWAYS
            is_shared = changes_no_result or field in ("seed", "train.epochs")
            if is_shared or field.startswith("data."):
                raise UserError(
                    f"recipe {name!r} sets {field}, which is the same for all: set it "
                    "on the command line"
                )
    if not recipes:
        raise UserError(f"{str(path)!r} has no recipe: give each a table")
    return recipes


def parse_rungs(text: str) -> list[int]:
    """Parses the epochs of the rungs, such as ``15,50,150``, which must rise."""
    try:
        rungs = [int(part) for part in text.split(",")]
    except ValueError:
        rungs = [0]
    if rungs[0] < 1 or any(b <= a for a, b in itertools.pairwise(rungs)):
        raise UserError(f"--epochs must be rising numbers such as 15,50, not {text!r}")
    return rungs
