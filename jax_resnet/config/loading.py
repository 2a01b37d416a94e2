"""Loads a config from a Python file, with overrides from the command line."""

import os
import re
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict, config_flags

from jax_resnet.config.augmentations import check_augmentations
from jax_resnet.config.fields import check, flatten
from jax_resnet.config.kept import to_json
from jax_resnet.runtime.errors import UserError, nearest

_OVERRIDE = re.compile(r"--?(?:no)?config\.(?P<field>[^=]*)")


def load(path: str, overrides: Sequence[str] = ()) -> ConfigDict:
    """Returns the locked config that a file's ``get_config()`` makes, with overrides.

    The file's own folder is importable while it runs, so that a config can build on its
    neighbours. Overrides are arguments such as ``--config.train.epochs=3``. Raises
    UserError if the file is no config, or an override is wrong.
    """
    config = _run(Path(path))
    for argument in overrides:
        config = _overridden(config, argument)
    check(flatten(config))
    augmentations = config.augment.to_dict()
    check_augmentations(augmentations.pop("transforms"), augmentations)
    return config.lock()


def _run(path: Path) -> ConfigDict:
    # Unlike Path.is_file, os.path.isfile takes names of any length.
    if path.suffix != ".py" or not os.path.isfile(path):  # noqa: PTH113
        raise UserError(f"no config file {str(path)!r}: try configs/resnet56.py")
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


def _overridden(config: ConfigDict, argument: str) -> ConfigDict:
    match = _OVERRIDE.fullmatch(argument.split("=", 1)[0])
    if not match:
        raise UserError(
            f"unexpected argument {argument!r}; fields are set as in --config.seed=1"
        )
    name, fields = match["field"], flatten(config)
    if name not in fields:
        inside = [field for field in fields if field.startswith(name + ".")]
        hint = f": it is a group, set {inside[0]}" if inside else nearest(name, fields)
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
