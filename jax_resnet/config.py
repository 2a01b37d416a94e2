"""Config files and their command-line overrides, with errors for people."""

import importlib.util
import json
import os
import re
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from jax_resnet.errors import UserError, nearest
from jax_resnet.image_sizes import ImageSizes

# The fields that a config must have, and their types. ``configs/resnet56.py`` says
# what each means. The settings of augmentations are theirs to check.
FIELDS: dict[str, type] = {
    "seed": int,
    "model.depth": int,
    "model.width": int,
    "model.shortcut": str,
    "model.dtype": str,
    "model.zero_init_residual": bool,
    "model.stochastic_depth": float,
    "data.name": str,
    "data.dir": str,
    "data.cache_dir": str,
    "data.train_split": str,
    "data.eval_split": str,
    "data.holdout": int,
    "data.placement": str,
    "mesh.devices": int,
    "mesh.batch_norm": str,
    "augment.recipe": tuple,
    "mix.mixup": float,
    "mix.cutmix": float,
    "mix.probability": float,
    "distill.teacher": str,
    "distill.weight": float,
    "distill.temperature": float,
    "optimizer.name": str,
    "optimizer.learning_rate": float,
    "optimizer.learning_rate_scaling": str,
    "optimizer.base_batch_size": int,
    "optimizer.schedule": str,
    "optimizer.warmup_epochs": float,
    "optimizer.momentum": float,
    "optimizer.nesterov": bool,
    "optimizer.weight_decay": float,
    "optimizer.weight_decay_on": str,
    "optimizer.adam_ratio": float,
    "optimizer.sam_rho": float,
    "optimizer.sam_adaptive": bool,
    "ema.decay": float,
    "ema.statistics_steps": int,
    "train.epochs": int,
    "train.batch_size": int,
    "train.accumulation": int,
    "train.label_smoothing": float,
    "train.eval_batch_size": int,
    "train.device": str,
    "train.steps_per_call": int,
    "train.compilation_cache": str,
    "train.max_skipped_steps": int,
    "train.initial_model": str,
    "train.image_sizes": tuple,
    "checkpoint.keep_latest": int,
}
# Fields that older configs lack, with the value that means what was done before.
ADDED = {
    "train.max_skipped_steps": 0,
    "train.initial_model": "",
    "train.image_sizes": (),
    "train.accumulation": 1,
    "data.placement": "auto",
    "mesh.devices": 0,
    "mesh.batch_norm": "global",
    "optimizer.learning_rate_scaling": "none",
    "optimizer.base_batch_size": 128,
    "model.zero_init_residual": False,
    "model.stochastic_depth": 0.0,
    "mix.mixup": 0.0,
    "mix.cutmix": 0.0,
    "mix.probability": 1.0,
    "distill.teacher": "",
    "distill.weight": 0.9,
    "distill.temperature": 4.0,
    "optimizer.name": "sgd",
    "optimizer.schedule": "cosine",
    "optimizer.adam_ratio": 1.0,
    "optimizer.sam_rho": 0.0,
    "optimizer.sam_adaptive": False,
    "ema.decay": 0.0,
    "ema.statistics_steps": 100,
    "train.label_smoothing": 0.0,
    "augment.trivial_augment.bins": 31,
    "augment.rand_augment.operations": 2,
    "augment.rand_augment.magnitude": 9,
    "augment.rand_augment.bins": 31,
}
_LEAST = {
    "seed": 0,
    "optimizer.learning_rate": 0,
    "optimizer.warmup_epochs": 0,
    "optimizer.weight_decay": 0,
    "train.epochs": 1,
    "train.batch_size": 1,
    "train.accumulation": 1,
    "mesh.devices": 0,
    "optimizer.base_batch_size": 1,
    "train.eval_batch_size": 1,
    "train.steps_per_call": 0,
    "train.max_skipped_steps": 0,
    "checkpoint.keep_latest": 2,
}
# Far above what anyone trains: a slip of the finger fills no memory.
_MOST = {
    "seed": 2**32 - 1,
    "model.depth": 2000,
    "model.width": 100,
    "train.epochs": 100_000,
    "optimizer.adam_ratio": 1e6,
}

# Not in the name of any file, and a line break would make two lines of one.
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_PARSE_ERRORS = (flags.Error, ValueError, TypeError, SyntaxError)
_OVERRIDE = re.compile(r"--?(?:no)?config\.(?P<field>[^=]*)")


def load(path: str, overrides: Sequence[str] = ()) -> ConfigDict:
    """The locked config that a file's ``get_config()`` returns, with overrides.

    The file's own folder is importable while it runs, so that a config can build on
    its neighbours. A config file is Python, and runs as the user.

    Args:
        path: of the Python file.
        overrides: command-line arguments, ``--config.a.b=v`` or ``--config.a.b v``.

    Raises:
        UserError: if the file is no config, or an override names no field of it or
            has the wrong type.
    """
    config = _run(Path(path))
    fields = flatten(config)
    for argument in overrides:
        if re.match("--?(flagfile|undefok)", argument):
            raise UserError(f"unexpected argument {argument!r}")
        match = _OVERRIDE.fullmatch(argument.split("=", 1)[0])
        if match and match["field"] not in fields:
            name = match["field"]
            below = [field for field in fields if field.startswith(name + ".")]
            hint = (
                f": it is a group, set {below[0]}" if below else nearest(name, fields)
            )
            raise UserError(f"config has no field {name!r}{hint}")
    flag_values = flags.FlagValues()
    argv = ["train", *_last_of_each(overrides)]
    try:
        with warnings.catch_warnings():  # of Python, that a literal looks odd
            warnings.simplefilter("ignore")
            holder = config_flags.DEFINE_config_dict(
                "config", config, flag_values=flag_values, sys_argv=argv
            )
            unparsed = flag_values(argv)[1:]
            config = holder.value
        json.dumps(flatten(config))  # a run records its config
    # The parsers behind the flags raise what the literals in an override raise: for
    # one that is nested too deeply even MemoryError.
    except (*_PARSE_ERRORS, MemoryError, RecursionError) as error:
        raise UserError(f"cannot set the config: {_one_line(error)}") from error
    if unparsed:
        raise UserError(f"unexpected argument {unparsed[0]!r}; options begin with --")
    check(flatten(config))
    return config.lock()


def _last_of_each(arguments: Sequence[str]) -> list[str]:
    """The arguments, of each field the last: absl would add up tuples set twice."""
    final: dict[str, list[str]] = {}
    left = list(arguments)
    while left:
        words = [left.pop(0)]
        match = _OVERRIDE.fullmatch(words[0].split("=", 1)[0])
        if match and "=" not in words[0] and left and not _OVERRIDE.match(left[0]):
            words.append(left.pop(0))  # its value
        name = match["field"] if match else f" {len(left)}"
        final.pop(name, None)
        final[name] = words
    return [word for words in final.values() for word in words]


def flatten(config: Mapping[str, Any] | ConfigDict, prefix: str = "") -> dict[str, Any]:
    """The fields by dotted name, groups opened."""
    fields: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, ConfigDict | dict):
            fields.update(flatten(value, f"{prefix}{name}."))
        else:
            fields[prefix + name] = value
    return fields


def to_json(config: ConfigDict) -> dict[str, Any]:
    """Nested plain dictionaries, with lists for tuples, as JSON has them."""
    return {
        name: to_json(value) if isinstance(value, ConfigDict) else _lists(value)
        for name, value in config.items()
    }


def _lists(value: Any) -> Any:
    return [*map(_lists, value)] if isinstance(value, tuple | list) else value


def differences(
    old: Mapping[str, Any], new: Mapping[str, Any], ignored: Sequence[str] = ()
) -> Iterator[str]:
    """Says which fields differ between two configs, but for the ``ignored`` ones.

    A field that an older config lacks has its value in :data:`ADDED`. Those ignored
    are whole names, or groups such as ``"augment."``.
    """
    old_fields, new_fields = (
        {n: _lists(v) for n, v in {**ADDED, **flatten(config)}.items()}
        for config in (old, new)
    )
    groups = tuple(name for name in ignored if name.endswith("."))
    for name in sorted({*old_fields, *new_fields}.difference(ignored)):
        if name.startswith(groups):
            continue
        before, after = (f.get(name, "absent") for f in (old_fields, new_fields))
        if before != after:
            was, is_now = _brief(repr(before)), _brief(repr(after))
            yield f"{_brief(name)} was {was} and is {is_now}"


def _run(path: Path) -> ConfigDict:
    if not os.path.isfile(path):  # noqa: PTH113 (Path's raises for a name too long)
        raise UserError(
            f"no config file {str(path)!r}: give one such as configs/resnet56.py"
        )
    specification = importlib.util.spec_from_file_location("config", path)
    if path.suffix != ".py" or not specification or not specification.loader:
        raise UserError(f"config {str(path)!r} is not a Python file (.py)")
    module = importlib.util.module_from_spec(specification)
    sys.path.insert(0, str(path.resolve().parent))
    try:
        specification.loader.exec_module(module)
        if not hasattr(module, "get_config"):
            raise UserError(f"config {str(path)!r} defines no function get_config()")
        config = module.get_config()
        if type(config) is not ConfigDict:
            raise UserError(
                f"get_config() of {str(path)!r} must return an "
                f"ml_collections.ConfigDict, not {type(config).__name__}"
            )
        json.dumps(flatten(config))  # a run records its config
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise UserError(
            f"config {str(path)!r} fails: {type(error).__name__}: {_one_line(error)}"
        ) from error
    finally:
        sys.path.pop(0)
    return config


def check(fields: Mapping[str, Any]) -> None:
    """Checks the fields of a config, by dotted name, as far as it can without data.

    Raises:
        UserError: if one is missing, unknown, of the wrong type or out of range.
    """
    for name in fields:
        if name not in FIELDS and not name.startswith("augment."):
            raise UserError(
                f"config has a field {name!r} that nothing uses{nearest(name, FIELDS)}"
            )
    for name, kind in FIELDS.items():
        if name not in fields:
            raise UserError(f"config has no field {name!r}: see configs/resnet56.py")
        value: Any = fields[name]
        # A bool is an int to Python, and an int will do for a float.
        allowed: Any = (int, float) if kind is float else kind
        if not isinstance(value, allowed) or (
            isinstance(value, bool) != (kind is bool)
        ):
            raise UserError(f"{name} must be of type {kind.__name__}, not {value!r}")
        if name == "augment.recipe" and not all(isinstance(n, str) for n in value):
            raise UserError(f"{name} must be a tuple of names, not {value!r}")
        if kind is str and _UNPRINTABLE.search(value):
            raise UserError(f"{name} must be printable text, not {value!r}")
        if kind is float and not abs(value) <= sys.float_info.max:
            raise UserError(f"{name} must be a finite number, not {value}")
        if name in _LEAST and value < _LEAST[name]:
            raise UserError(f"{name} must be at least {_LEAST[name]}, not {value}")
        if name in _MOST and value > _MOST[name]:
            raise UserError(f"{name} must be at most {_MOST[name]}, not {value}")
    ImageSizes.from_config(fields["train.image_sizes"])
    warmup, epochs = fields["optimizer.warmup_epochs"], fields["train.epochs"]
    if warmup >= epochs:
        raise UserError(
            f"optimizer.warmup_epochs must be less than train.epochs, {epochs}, and is "
            f"{warmup}"
        )


def _brief(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 200 else line[:200] + "..."


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
