"""The augmentations that a config may list, and the ranges of their settings."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from jax_resnet.config.fields import Field
from jax_resnet.config.functions import check_arguments, name_of
from jax_resnet.runtime.errors import UserError, nearest

_FRACTION = Field(float, least=0, most=1)
_BINS = Field(int, least=2, most=256, default=31)
# Those before "normalize" see levels from 0 to 255, those after it normalised values.
BEFORE_NORMALIZE: dict[str, dict[str, Field]] = {
    "random_crop": {"padding": Field(int, least=0, most=1024)},
    "random_flip": {"probability": _FRACTION},
    "alternating_flip": {},
    "random_rotation": {"degrees": Field(float, least=0, most=180)},
    "color_jitter": {
        "brightness": _FRACTION,
        "contrast": _FRACTION,
        "saturation": _FRACTION,
    },
    "trivial_augment": {"bins": _BINS},
    "rand_augment": {
        "operations": Field(int, least=1, most=16, default=2),
        "magnitude": Field(int, least=0, most=255, default=9),
        "bins": _BINS,
    },
}
AFTER_NORMALIZE: dict[str, dict[str, Field]] = {
    "random_erasing": {
        "probability": _FRACTION,
        "area": Field(tuple, each=_FRACTION, length=2),
        "aspect": Field(tuple, each=Field(float, least=0.01, most=100), length=2),
        "tries": Field(int, least=1, most=100, default=10),
    },
    "cutout": {"size": Field(int, least=1, most=1024)},
}
AUGMENTATIONS = BEFORE_NORMALIZE | AFTER_NORMALIZE
# A name, or a function of the user, (key, image, **settings) -> image.
Transform = str | Callable[..., Any]


def check_augmentations(
    transforms: Sequence[Transform], settings: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Checks a list of augmentations, and the settings of these and of others.

    Returns all settings of the augmentations in the list by name, with their defaults.
    Raises UserError if a name or setting is wrong, or ``normalize`` is not where it
    must be.
    """
    functions = _functions(transforms)
    _check_order([name for name in transforms if not callable(name)])
    for name in settings:
        _check_name(name, AUGMENTATIONS | functions)
    names = [name for name in transforms if name in AUGMENTATIONS]
    names += functions
    checked = {}
    for name in [*names, *settings]:
        group = settings.get(name, {})
        if not isinstance(group, Mapping):
            raise UserError(f"augment.{name} must be a group of settings")
        if name in functions:
            check_arguments(functions[name], group)
            checked[name] = dict(group)
        else:
            checked[name] = _check_settings(name, group)
    return {name: checked[name] for name in names}


def _functions(transforms: Sequence[Transform]) -> dict[str, Callable[..., Any]]:
    """Returns the functions of the user by name."""
    functions: dict[str, Callable[..., Any]] = {}
    for function in filter(callable, transforms):
        name = name_of(function)
        if name in {*AUGMENTATIONS, "normalize", "transforms"}:
            raise UserError(
                f"augment.transforms: {name!r} has a name of jax_resnet: rename it"
            )
        if functions.setdefault(name, function) is not function:
            raise UserError(f"augment.transforms: two functions are called {name!r}")
    return functions


def _check_order(transforms: Sequence[Any]) -> None:
    """Checks the names, and on which side of ``normalize`` they are."""
    for name in transforms:
        _check_name(name, [*BEFORE_NORMALIZE, "normalize", *AFTER_NORMALIZE])
    if (count := transforms.count("normalize")) != 1:
        raise UserError(
            f"augment.transforms must have 'normalize' exactly once, not {count} times"
        )
    middle = transforms.index("normalize")
    for names, others, side in (
        (transforms[:middle], AFTER_NORMALIZE, "after"),
        (transforms[middle + 1 :], BEFORE_NORMALIZE, "before"),
    ):
        for name in names:
            if name in others:
                raise UserError(
                    f"augment.transforms: {name!r} must come {side} 'normalize'"
                )


def _check_name(name: object, known: Iterable[str]) -> None:
    known = list(known)
    if name not in known:
        hint = nearest(str(name), known) or f"; known: {', '.join(known)}"
        raise UserError(f"unknown augmentation {name!r}{hint}")


def _check_settings(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns all settings of an augmentation, once they are valid."""
    fields = AUGMENTATIONS[name]
    for setting in settings:
        if setting not in fields:
            hint = nearest(str(setting), fields)
            raise UserError(f"augment.{name} has no setting {setting!r}{hint}")
    values = {}
    for setting, field in fields.items():
        value = settings.get(setting, field.default)
        if value is None:
            raise UserError(f"augment.{name}.{setting} is missing")
        if problem := field.problem(value):
            raise UserError(
                f"augment.{name}.{setting} must be {problem}, not {value!r}"
            )
        values[setting] = field.converted(value)
    if "magnitude" in values and values["magnitude"] >= values["bins"]:
        raise UserError(
            f"augment.{name}.magnitude must be less than bins, {values['bins']}, not "
            f"{values['magnitude']}"
        )
    return values
