"""The fields of a config: their types and ranges, and whether a run may change them."""

import enum
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ml_collections import ConfigDict

from jax_resnet.config.hints import wrong_field
from jax_resnet.runtime.errors import UserError
from jax_resnet.runtime.text import utf8_hint


class Resume(enum.Enum):
    """Whether a run may resume with a field changed."""

    NEVER = enum.auto()  # its state would not fit, or its past would be another
    IF_ACCEPTED = enum.auto()  # with --accept-changes
    ALWAYS = enum.auto()  # the field changes where and how fast a run is computed


NEVER, IF_ACCEPTED, ALWAYS = Resume
# No file name has such characters, and a line break would make two lines of one.
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True)
class Field:
    """The values that a field may have."""

    type: type  # of the value; an int will do for a float
    resume: Resume = NEVER  # whether a run may resume with the field changed
    least: int | float | None = None  # the smallest number allowed
    most: int | float | None = None  # the largest: a typo must not fill memory
    below: int | float | None = None  # a number that the value must not reach
    multiple_of: int = 1  # the number must be one
    choices: tuple[str, ...] = ()  # the texts allowed; any, if there are none
    default: Any = None  # for kept configs older than the field, as in JSON
    each: "Field | None" = None  # the values that the parts of a tuple may have
    length: int | None = None  # of a tuple; any, if it is None

    def problem(self, value: Any) -> str | None:
        """Returns what the value should be, or None if it is that."""
        wider: dict[type, Any] = {float: (int, float), tuple: (tuple, list)}
        is_bool = isinstance(value, bool)  # which is an int to Python
        if is_bool != (self.type is bool) or not isinstance(
            value, wider.get(self.type, self.type)
        ):
            return f"of type {self.type.__name__}"
        if self.type is str and _UNPRINTABLE.search(value):
            return f"printable text{utf8_hint()}"
        if self.length is not None and len(value) != self.length:
            return f"of {self.length} values"
        if self.each is not None:
            problems = filter(None, map(self.each.problem, value))
            return next((f"a tuple, each {problem}" for problem in problems), None)
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
        if self.multiple_of > 1 and value % self.multiple_of:
            return f"a multiple of {self.multiple_of}"
        return None

    def converted(self, value: Any) -> Any:
        """Returns a valid value in the type of the field."""
        parts = map(self.each.converted, value) if self.each else value
        return self.type(parts)


# Parts of the network that ``optimizer.frozen`` may name.
PARTS = ("stem", "stage1", "stage2", "stage3", "head")

# All but the settings of augmentations, see jax_resnet/config/augmentations.py.
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
    # The network halves the image twice.
    "data.resolution": Field(int, least=8, most=1024, multiple_of=4, default=32),
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
    "optimizer.frozen": Field(str, default=""),
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


def check(fields: Mapping[str, Any]) -> None:
    """Checks the fields of a config, by dotted name, as far as it can without data.

    Raises UserError if one is missing, unknown, of the wrong type or out of range.
    """
    for name in fields:
        if name not in FIELDS and not name.startswith("augment."):
            raise UserError(
                f"config has a field {name!r} that nothing uses"
                f"{wrong_field(name, FIELDS)}"
            )
    for name, field in FIELDS.items():
        if name not in fields:
            raise UserError(f"config has no field {name!r}: see configs/resnet56.py")
        if problem := field.problem(fields[name]):
            raise UserError(f"{name} must be {problem}, not {fields[name]!r}")
    check_depth(fields["model.depth"])
    warmup, epochs = fields["optimizer.warmup_epochs"], fields["train.epochs"]
    if warmup >= epochs:
        problem = f"must be less than train.epochs, {epochs}, not {warmup}"
        raise UserError(f"optimizer.warmup_epochs {problem}")
    if frozen_parts(fields["optimizer.frozen"]) and not fields["train.initial_model"]:
        raise UserError(
            "optimizer.frozen keeps parts of another model: name it in "
            "train.initial_model"
        )


def frozen_parts(text: str) -> tuple[str, ...]:
    """Returns the parts that ``optimizer.frozen`` names, in the order of the network.

    Raises UserError if there is no such part, or none is left to train.
    """
    named = {name.strip() for name in text.split(",")} - {""}
    if unknown := sorted(named - set(PARTS)):
        known = ", ".join(PARTS)
        raise UserError(f"optimizer.frozen: no part {unknown[0]!r}, only {known}")
    if named == set(PARTS):
        raise UserError("optimizer.frozen names all parts: leave one out to train it")
    return tuple(part for part in PARTS if part in named)


def check_depth(depth: int) -> None:
    """Raises UserError if a ResNet for small images cannot have this depth."""
    if depth < 8 or (depth - 2) % 6:
        raise UserError(
            f"model.depth must be 6n+2, such as 8, 14, 20 or 56, not {depth}"
        )


def resume_rule(name: str) -> Resume:
    """Returns whether a run may resume with a field changed."""
    unlisted = IF_ACCEPTED if name.startswith("augment.") else NEVER
    return FIELDS[name].resume if name in FIELDS else unlisted


def flatten(config: Mapping[str, Any] | ConfigDict) -> dict[str, Any]:
    """Returns the fields by dotted name."""
    nested = config.to_dict() if isinstance(config, ConfigDict) else config
    fields: dict[str, Any] = {}
    for name, value in nested.items():
        if isinstance(value, Mapping):
            fields |= {f"{name}.{inner}": v for inner, v in flatten(value).items()}
        else:
            fields[name] = value
    return fields
