"""Loads a config from a Python file, with overrides from the command line."""

import os
import re
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict, config_flags

from jax_resnet.config import hints
from jax_resnet.config.augmentations import check_augmentations
from jax_resnet.config.fields import check, flatten
from jax_resnet.config.kept import to_json
from jax_resnet.runtime.errors import UserError, nearest
from jax_resnet.runtime.paths import user_path
from jax_resnet.runtime.resources import own_folder

_OVERRIDE = re.compile(r"--?(?:no)?config\.(?P<field>[^=]*)")


def load(path: str, overrides: Sequence[str] = ()) -> ConfigDict:
    """Returns the locked config that a file's ``get_config()`` makes, with overrides.

    The path is that of a file, or the name of a config that comes with this package,
    such as ``resnet56``. The file's own folder is importable while it runs, so that a
    config can build on its neighbours. Overrides are arguments such as
    ``--config.train.epochs=3``. Raises UserError if the file is no config, or an
    override is wrong.
    """
    config = _run(_find(path))
    for i, argument in enumerate(overrides):
        config = _overridden(config, argument, overrides[i + 1 :])
    return checked(config)


def checked(config: ConfigDict) -> ConfigDict:
    """Returns a locked copy of a config; raises UserError if a field is wrong."""
    config = ConfigDict(config.to_dict())
    check(flatten(config))
    augmentations = config.augment.to_dict()
    check_augmentations(augmentations.pop("transforms"), augmentations)
    return config.lock()


def packaged_names() -> list[str]:
    """Returns the names of the configs that come with this package."""
    return sorted(path.stem for path in own_folder("configs").glob("*.py"))


def _find(path: str) -> Path:
    """Returns the file of a config from its path, or the name of a packaged one."""
    if path in packaged_names():
        return own_folder("configs") / f"{path}.py"
    found = user_path(path)
    # Unlike Path.is_file, os.path.isfile takes names of any length.
    if not path.endswith(".py") or not os.path.isfile(found):  # noqa: PTH113
        known = packaged_names()
        hint = nearest(Path(path).stem, known) or f"; there are {', '.join(known)}"
        raise UserError(f"no config file {path!r}{hint}")
    return found


def _run(path: Path) -> ConfigDict:
    sys.path.insert(0, str(path.resolve().parent))
    try:
        config = runpy.run_path(str(path))["get_config"]()
        if type(config) is not ConfigDict:
            raise TypeError(f"get_config() must return a ConfigDict, not {config!r}")
        to_json(config)  # a run keeps it
    except (Exception, SystemExit) as error:
        raise UserError(
            f"config {str(path)!r} fails: {type(error).__name__}: {_one_line(error)}"
        ) from error
    finally:
        sys.path.pop(0)
    return config


def _overridden(
    config: ConfigDict, argument: str, following: Sequence[str]
) -> ConfigDict:
    fields = flatten(config)
    match = _OVERRIDE.fullmatch(argument.split("=", 1)[0])
    if not match:
        hint = hints.wrong_argument(argument, "".join(following[:1]), fields)
        raise UserError(f"unexpected argument {argument!r}{hint}")
    if (name := match["field"]) not in fields:
        hint = hints.wrong_field(name, fields)
        raise UserError(f"config has no field {name!r}{hint}")
    values, argv = flags.FlagValues(), ["train", argument]
    try:
        config_flags.DEFINE_config_dict(
            "config", config, flag_values=values, sys_argv=argv
        )
        values(argv)
        to_json(values.config)
    except Exception as error:  # the parsers of literals raise many kinds
        raise UserError(f"cannot set the config: {_one_line(error)}") from error
    return values.config


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
