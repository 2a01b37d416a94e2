"""Checks of an augmentation recipe: the names, their order and their settings."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jax_resnet.runtime.errors import UserError, nearest

# Every setting of an augmentation: whole number or not, least, greatest. The pairs
# are ranges.
_LIMITS: dict[str, tuple[type, float, float]] = {
    "padding": (int, 0, 1024),
    "probability": (float, 0, 1),
    "degrees": (float, 0, 180),
    "brightness": (float, 0, 1),
    "contrast": (float, 0, 1),
    "saturation": (float, 0, 1),
    "area": (float, 0, 1),
    "aspect": (float, 0.01, 100),
    "tries": (int, 1, 100),
    "size": (int, 1, 1024),
    "bins": (int, 2, 256),
    "operations": (int, 1, 16),
    "magnitude": (int, 0, 255),
}
_PAIRS = ("area", "aspect")


def check_order(
    recipe: Sequence[str], before: Sequence[str], after: Sequence[str]
) -> None:
    """Checks that names are known and stand on their side of ``normalize``.

    Args:
      recipe: Names in order of application.
      before: The names that may come before ``normalize``.
      after: The names that may come after it.

    Raises:
      UserError: They do not, or ``normalize`` is not there exactly once.
    """
    for name in recipe:
        check_name(name, [*before, "normalize", *after])
    if recipe.count("normalize") != 1:
        times = recipe.count("normalize")
        raise UserError(
            f"augment.transforms must have 'normalize' exactly once, not {times} times"
        )
    middle = recipe.index("normalize")
    for place, name in enumerate(recipe):
        if name in before and place > middle:
            raise UserError(
                f"augment.transforms: {name!r} must come before 'normalize'"
            )
        if name in after and place < middle:
            raise UserError(f"augment.transforms: {name!r} must come after 'normalize'")


def check_name(name: str, known: Sequence[str]) -> None:
    """Raises a :class:`UserError` for an augmentation that is not known."""
    if name not in known:
        hint = nearest(str(name), known)
        raise UserError(
            f"unknown augmentation {name!r}{hint or '; known: ' + ', '.join(known)}"
        )


def checked(
    name: str, function: Callable[..., Any], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns an augmentation's settings as the numbers that its function takes.

    Args:
      name: For messages.
      function: Has the settings as keyword-only parameters.
      settings: By name; those with a default may be left out.

    Raises:
      UserError: A setting is unknown, missing, not a number or out of range.
    """
    defaults = {
        parameter.name: parameter.default
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    for setting in settings:
        if setting not in defaults:
            hint = nearest(setting, defaults)
            raise UserError(f"unknown setting augment.{name}.{setting}{hint}")
    for setting, default in defaults.items():
        if default is inspect.Parameter.empty and setting not in settings:
            raise UserError(f"augment.{name}.{setting} is missing: add it")
    numbers = {
        setting: _number(f"augment.{name}.{setting}", setting, value)
        for setting, value in settings.items()
    }
    both = defaults | numbers
    if "magnitude" in both and both["magnitude"] >= both["bins"]:
        raise UserError(
            f"augment.{name}.magnitude must be less than bins, {both['bins']}, not "
            f"{both['magnitude']}"
        )
    return numbers


def _number(field: str, setting: str, value: Any) -> Any:
    kind, least, greatest = _LIMITS[setting]
    is_pair = setting in _PAIRS
    numbers = value if is_pair and isinstance(value, Sequence) else [value]
    allowed = (int,) if kind is int else (int, float)
    good = len(numbers) == 1 + is_pair and all(
        isinstance(number, allowed)
        and not isinstance(number, bool)
        and least <= number <= greatest
        for number in numbers
    )
    if not good or list(numbers) != sorted(numbers):
        noun = "a whole number" if kind is int else "a number"
        noun = "two numbers, in order," if is_pair else noun
        raise UserError(
            f"{field} must be {noun} from {least} to {greatest}, not {value!r}"
        )
    return tuple(map(kind, numbers)) if is_pair else kind(value)
