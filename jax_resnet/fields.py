"""The fields of a config: their types and ranges, and those that older configs lack."""

import re
import sys
from collections.abc import Mapping
from typing import Any

from jax_resnet.runtime.errors import UserError, nearest

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
# Fields that older configs lack, with the value, as in JSON, that means what was done
# before.
ADDED = {
    "train.max_skipped_steps": 0,
    "train.initial_model": "",
    "train.image_sizes": [],
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
_DTYPES = ("auto", "float32", "bfloat16")
# Not in the name of any file, and a line break would make two lines of one.
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


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
        if name == "model.dtype" and value not in _DTYPES:
            raise UserError(f"{name} must be one of {_DTYPES}, not {value!r}")
        if name in _LEAST and value < _LEAST[name]:
            raise UserError(f"{name} must be at least {_LEAST[name]}, not {value}")
        if name in _MOST and value > _MOST[name]:
            raise UserError(f"{name} must be at most {_MOST[name]}, not {value}")
    warmup, epochs = fields["optimizer.warmup_epochs"], fields["train.epochs"]
    if warmup >= epochs:
        raise UserError(
            f"optimizer.warmup_epochs must be less than train.epochs, {epochs}, and is "
            f"{warmup}"
        )
