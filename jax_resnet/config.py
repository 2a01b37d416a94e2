"""Loads, checks and compares configs.

A config is a locked ``ConfigDict``, returned by ``get_config()`` of a Python file such
as ``configs/resnet56.py``, where every field is explained. A run keeps it as JSON.
"""

import enum
import json
import os
import re
import runpy
import sys
import textwrap
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from absl import flags
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict, config_flags

from jax_resnet.runtime.errors import UserError, nearest


class Resume(enum.Enum):
    """Whether a run may resume with a field changed."""

    NEVER = enum.auto()  # its state would not fit, or its past would be another
    IF_ACCEPTED = enum.auto()  # with --accept-changes
    ALWAYS = enum.auto()  # the field changes where and how fast a run is computed


NEVER, IF_ACCEPTED, ALWAYS = Resume
# No file name has such characters, and a line break would make two lines of one.
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_OVERRIDE = re.compile(r"--?(?:no)?config\.(?P<field>[^=]*)")


@dataclass(frozen=True)
class Field:
    """The values that a field may have."""

    type: type  # of the value; an int will do for a float
    resume: Resume = NEVER  # whether a run may resume with the field changed
    least: int | float | None = None  # the smallest number allowed
    most: int | float | None = None  # the largest: a typo must not fill memory
    below: int | float | None = None  # a number that the value must not reach
    choices: tuple[str, ...] = ()  # the texts allowed; any, if there are none
    default: Any = None  # for kept configs older than the field, as in JSON

    def problem(self, value: Any) -> str | None:
        """Returns what the value should be, or None if it is that."""
        allowed: Any = (int, float) if self.type is float else self.type
        is_bool = isinstance(value, bool)  # which is an int to Python
        if not isinstance(value, allowed) or is_bool != (self.type is bool):
            return f"of type {self.type.__name__}"
        if self.type is str and _UNPRINTABLE.search(value):
            return "printable text"
        if self.type is float and not abs(value) <= sys.float_info.max:
            return "a finite number"
        if self.choices and value not in self.choices:
            return f"one of {self.choices}"
        if self.least is not None and value < self.least:
            return f"at least {self.least}"
        if self.most is not None and value > self.most:
            return f"at most {self.most}"
        if self.below is not None and value >= self.below:
            return f"less than {self.below}"
        return None


# All but the settings of augmentations, which augment/compose.py checks.
FIELDS = {
    "seed": Field(int, least=0, most=2**32 - 1),
    "model.depth": Field(int, most=2000),
    "model.width": Field(int, least=1, most=100),
    "model.shortcut": Field(str, choices=("projection", "pad")),
    "model.dtype": Field(str, IF_ACCEPTED, choices=("auto", "float32", "bfloat16")),
    "model.zero_init_residual": Field(bool, default=False),
    "model.stochastic_depth": Field(float, IF_ACCEPTED, 0, below=1, default=0.0),
    "data.name": Field(str),
    "data.dir": Field(str, ALWAYS),
    "data.cache_dir": Field(str, ALWAYS),
    "data.train_split": Field(str),
    "data.eval_split": Field(str),
    "data.holdout": Field(int),
    "data.placement": Field(
        str, ALWAYS, choices=("auto", "device", "stream"), default="auto"
    ),
    "mesh.devices": Field(int, ALWAYS, least=0, default=0),
    "mesh.batch_norm": Field(
        str, IF_ACCEPTED, choices=("global", "device"), default="global"
    ),
    "augment.transforms": Field(tuple, IF_ACCEPTED),
    "mix.mixup": Field(float, IF_ACCEPTED, 0, 100, default=0.0),
    "mix.cutmix": Field(float, IF_ACCEPTED, 0, 100, default=0.0),
    "mix.probability": Field(float, IF_ACCEPTED, 0, 1, default=1.0),
    "distill.teacher": Field(str, IF_ACCEPTED, default=""),
    "distill.weight": Field(float, IF_ACCEPTED, 0, 1, default=0.9),
    "distill.temperature": Field(float, IF_ACCEPTED, 0.01, 1000, default=4.0),
    "optimizer.name": Field(
        str, IF_ACCEPTED, choices=("sgd", "adamw", "muon"), default="sgd"
    ),
    "optimizer.learning_rate": Field(float, IF_ACCEPTED, 0),
    "optimizer.learning_rate_scaling": Field(
        str, IF_ACCEPTED, choices=("none", "linear", "sqrt"), default="none"
    ),
    "optimizer.base_batch_size": Field(int, IF_ACCEPTED, 1, default=128),
    "optimizer.schedule": Field(
        str,
        IF_ACCEPTED,
        choices=("cosine", "linear", "step", "constant"),
        default="cosine",
    ),
    "optimizer.warmup_epochs": Field(float, IF_ACCEPTED, 0),
    "optimizer.momentum": Field(float, IF_ACCEPTED, 0, below=1),
    "optimizer.nesterov": Field(bool, IF_ACCEPTED),
    "optimizer.weight_decay": Field(float, IF_ACCEPTED, 0),
    "optimizer.weight_decay_on": Field(str, IF_ACCEPTED, choices=("all", "kernels")),
    "optimizer.adam_ratio": Field(float, IF_ACCEPTED, 0, 1e6, default=1.0),
    "optimizer.sam_rho": Field(float, IF_ACCEPTED, 0, 100, default=0.0),
    "optimizer.sam_adaptive": Field(bool, IF_ACCEPTED, default=False),
    "ema.decay": Field(float, IF_ACCEPTED, 0, below=1, default=0.0),
    "ema.statistics_steps": Field(int, IF_ACCEPTED, 1, default=100),
    "train.initial_model": Field(str, default=""),
    "train.epochs": Field(int, IF_ACCEPTED, 1, 100_000),
    "train.batch_size": Field(int, NEVER, 1),
    "train.image_sizes": Field(tuple, IF_ACCEPTED, default=[]),
    "train.accumulation": Field(int, IF_ACCEPTED, 1, default=1),
    "train.label_smoothing": Field(float, IF_ACCEPTED, 0, below=1, default=0.0),
    "train.eval_batch_size": Field(int, ALWAYS, 1),
    "train.device": Field(str, ALWAYS),
    "train.steps_per_call": Field(int, ALWAYS, least=0),
    "train.compilation_cache": Field(str, ALWAYS),
    "checkpoint.keep_latest": Field(int, ALWAYS, least=2),
}
_DEFAULTS = {
    **{n: field.default for n, field in FIELDS.items() if field.default is not None},
    "augment.trivial_augment.bins": 31,
    "augment.rand_augment.operations": 2,
    "augment.rand_augment.magnitude": 9,
    "augment.rand_augment.bins": 31,
}


def check(fields: Mapping[str, Any]) -> None:
    """Checks the fields of a config, by dotted name, as far as it can without data.

    Raises UserError if one is missing, unknown, of the wrong type or out of range.
    """
    for name in fields:
        if name not in FIELDS and not name.startswith("augment."):
            raise UserError(
                f"config has a field {name!r} that nothing uses{nearest(name, FIELDS)}"
            )
    for name, field in FIELDS.items():
        if name not in fields:
            raise UserError(f"config has no field {name!r}: see configs/resnet56.py")
        if problem := field.problem(fields[name]):
            raise UserError(f"{name} must be {problem}, not {fields[name]!r}")
    transforms = fields["augment.transforms"]
    if not all(isinstance(name, str) for name in transforms):
        raise UserError(f"augment.transforms must be names, not {transforms!r}")
    warmup, epochs = fields["optimizer.warmup_epochs"], fields["train.epochs"]
    if warmup >= epochs:
        problem = f"must be less than train.epochs, {epochs}, not {warmup}"
        raise UserError(f"optimizer.warmup_epochs {problem}")


def resume_rule(name: str) -> Resume:
    """Returns whether a run may resume with a field changed."""
    unlisted = IF_ACCEPTED if name.startswith("augment.") else NEVER
    return FIELDS[name].resume if name in FIELDS else unlisted


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


def with_dtype(config: ConfigDict, dtype: str) -> ConfigDict:
    """Returns the config with a compute dtype in place of ``"auto"``."""
    config = ConfigDict(config.to_dict())
    if config.model.dtype == "auto":
        config.model.dtype = dtype
    return config.lock()


def to_json(config: ConfigDict) -> dict[str, Any]:
    """Returns nested dictionaries, with lists in place of tuples."""
    return json.loads(json.dumps(config.to_dict(), sort_keys=True))


def flatten(config: Mapping[str, Any] | ConfigDict) -> dict[str, Any]:
    """Returns the fields by dotted name."""
    nested = config.to_dict() if isinstance(config, ConfigDict) else config
    return flatten_dict(nested, sep=".")


def kept_fields(kept: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of a kept run's config, which may be of an older version."""
    fields = {**_DEFAULTS, **flatten(kept)}
    fields.pop("train.max_skipped_steps", None)  # there is no such field any more
    if "augment.recipe" in fields:  # as augment.transforms was called
        fields["augment.transforms"] = fields.pop("augment.recipe")
    return fields


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, str]:
    """Returns each field that differs between two kept configs, and how, in words."""
    before, after = kept_fields(old), kept_fields(new)
    lines = {}
    for name in sorted(before.keys() | after.keys()):
        values = [fields.get(name, "absent") for fields in (before, after)]
        if values[0] != values[1]:
            was, now = (textwrap.shorten(repr(value), 200) for value in values)
            lines[name] = f"{name} was {was} and is {now}"
    return lines


def fingerprint(config: Mapping[str, Any], ignored: Sequence[str] = ()) -> int:
    """Returns a checksum of a config's fields, but for the ``ignored`` ones."""
    fields = {n: v for n, v in flatten(config).items() if n not in ignored}
    return zlib.crc32(json.dumps(fields, sort_keys=True).encode())


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
