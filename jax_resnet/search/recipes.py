"""What a search trains: recipes over a base config."""

import itertools
import re
import shlex
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jax_resnet import config
from jax_resnet.runtime.errors import UserError, nearest
from jax_resnet.training.task import Task


def is_common(field: str) -> bool:
    """Returns whether a field is the search's to set, or changes no result."""
    changes_no_result = config.resume_rule(field) is config.Resume.ALWAYS
    return field in ("seed", "train.epochs") or changes_no_result


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
            if is_common(field) or field.startswith("data."):
                raise UserError(
                    f"recipe {name!r} sets {field}, which is the same for all: set it "
                    "on the command line"
                )
    if not recipes:
        raise UserError(f"{str(path)!r} has no recipe: give each a table")
    return recipes


def parse_rungs(text: str) -> list[int]:
    """The epochs of ``15,50,150``.

    Raises:
        UserError: if they are not whole numbers that rise.
    """
    try:
        rungs = [int(part) for part in text.split(",")]
    except ValueError:
        rungs = [0]
    if rungs[0] < 1 or any(b <= a for a, b in itertools.pairwise(rungs)):
        raise UserError(f"--epochs must be rising numbers such as 15,50, not {text!r}")
    return rungs


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
