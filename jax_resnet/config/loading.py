"""Loads a config from a Python file, with overrides from the command line."""

import difflib
import os
import re
import runpy
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict, config_flags

from jax_resnet.config.augmentations import check_augmentations
from jax_resnet.config.fields import check, flatten
from jax_resnet.config.kept import to_json
from jax_resnet.runtime.errors import UserError, nearest
from jax_resnet.runtime.resources import own_folder

_OVERRIDE = re.compile(r"--?(?:no)?config\.(?P<field>[^=]*)")


# What fields are called elsewhere.
_ALIASES = {
    "lr": "optimizer.learning_rate",
    "wd": "optimizer.weight_decay",
    "optim": "optimizer.name",
    "opt": "optimizer.name",
    "optimizer": "optimizer.name",
    "dataset": "data.name",
    "data": "data.name",
    "data_path": "data.dir",
    "model": "model.depth",
    "arch": "model.depth",
    "amp": "model.dtype",
    "warmup": "optimizer.warmup_epochs",
    "smoothing": "train.label_smoothing",
    "finetune": "train.initial_model",
    "pretrained": "train.initial_model",
    "freeze": "optimizer.frozen",
    "gpus": "mesh.devices",
}
_OTHERWISE = {
    "resume": "the same command resumes an unfinished run",
    "output": "the folder of a run is its --workdir",
    "output_dir": "the folder of a run is its --workdir",
    "workers": "there are none: images are augmented on the device",
    "num_workers": "there are none: images are augmented on the device",
}


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
    # Unlike Path.is_file, os.path.isfile takes names of any length.
    if not path.endswith(".py") or not os.path.isfile(path):  # noqa: PTH113
        hint = nearest(Path(path).stem, packaged_names())
        raise UserError(f"no config file {path!r}{hint or ': try resnet56'}")
    return Path(path)


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
        raise _unexpected(argument, following, fields)
    if (name := match["field"]) not in fields:
        inside = [field for field in fields if field.startswith(name + ".")]
        meant = _meant(name, fields)
        if inside:
            hint = f": it is a group, set {inside[0]}"
        else:
            hint = f"; did you mean {meant!r}?" if meant else nearest(name, fields)
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


def _unexpected(
    argument: str, following: Sequence[str], fields: Iterable[str]
) -> UserError:
    """Returns the error for an argument that sets no field, with the field meant."""
    option, _, value = argument.partition("=")
    name = option.lstrip("-").replace("-", "_")
    hint = "; fields are set as in --config.seed=1"
    if option.startswith("--") and name in _OTHERWISE:
        hint = f": {_OTHERWISE[name]}"
    elif option.startswith("--") and (field := _meant(name, fields)):
        if not value and following and not following[0].startswith("-"):
            value = following[0]
        hint = f": it is set as --config.{field}={value or '...'}"
    return UserError(f"unexpected argument {argument!r}{hint}")


def _meant(name: str, fields: Iterable[str]) -> str | None:
    """Returns the field that another name, or the last part of its own, stands for."""
    last = name.rpartition(".")[2]
    by_last_part: dict[str, str] = {}
    for field in fields:
        by_last_part.setdefault(field.rpartition(".")[2], field)
    if last in by_last_part or last in _ALIASES:
        return by_last_part.get(last) or _ALIASES[last]
    close = difflib.get_close_matches(last, [*by_last_part, *_ALIASES], n=1, cutoff=0.8)
    return _meant(close[0], by_last_part.values()) if close else None


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
