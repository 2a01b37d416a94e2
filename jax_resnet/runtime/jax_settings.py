"""Keeps results independent of JAX's settings, which come from the environment."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax

from jax_resnet.runtime.errors import UserError

# The settings that change results or break programs compiled ahead, as JAX has them.
DEFAULTS = {
    "enable_x64": False,
    "disable_jit": False,
    "default_prng_impl": "threefry2x32",
    "threefry_partitionable": True,
    "no_tracing": False,
    "no_execution": False,
    "debug_nans": False,  # training reports the first step whose loss is not finite
    "debug_infs": False,
    "transfer_guard_host_to_device": "allow",
    "transfer_guard_device_to_device": "allow",
    "transfer_guard_device_to_host": "allow",
}

# Those that break them too, and that JAX changes for all of a process alone.
NEEDED = {
    "enable_pgle": False,
    "error_checking_behavior_nan": "ignore",
    "error_checking_behavior_oob": "ignore",
    "error_checking_behavior_divide": "ignore",
}


def check_settings() -> None:
    """Raises UserError for a setting with which no step can be compiled or run."""
    for name, value in NEEDED.items():
        if (found := getattr(jax.config, f"jax_{name}", value)) != value:
            raise UserError(
                f"JAX's setting JAX_{name.upper()} is {found!r}: training and models "
                f"need {value!r}"
            )


@contextlib.contextmanager
def fixed_settings(values: Mapping[str, Any] = DEFAULTS) -> Iterator[None]:
    """Gives JAX these settings in this thread, also as a decorator.

    Whoever uses JAX for a result does so within it, in each of his threads. The user's
    own code keeps the settings that the environment or the program has chosen.
    """
    with contextlib.ExitStack() as stack:
        for name, value in values.items():
            stack.enter_context(getattr(jax, name)(value))
        yield


def present_settings() -> dict[str, Any]:
    """Returns the values that these settings have in this thread."""
    return {name: getattr(jax.config, f"jax_{name}") for name in DEFAULTS}
