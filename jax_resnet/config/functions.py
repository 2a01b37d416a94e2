"""A user's own augmentation in a config: its name, its settings, and it as text."""

import hashlib
import inspect
import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any

from jax_resnet.runtime.errors import UserError


def name_of(function: Callable[..., Any]) -> str:
    """Returns the name of a function; raises UserError if it has none."""
    name = getattr(function, "__name__", "")
    if not name.isidentifier():
        raise UserError(f"augment.transforms: define {function!r} with def and a name")
    return name


def as_text(function: Callable[..., Any]) -> str:
    """Returns the name and a digest of the source, by which a run knows a function.

    Raises UserError if there is no source to read.
    """
    name = name_of(function)
    try:
        source = inspect.getsource(inspect.unwrap(function))
        # Of code from exec(), Python may find the lines of another one.
        begins = rf"\bdef\s+{name}\s*[(\[]"
        if not re.search(begins, unicodedata.normalize("NFKC", source)):
            raise OSError("these are other lines")
    except (OSError, TypeError) as error:
        raise UserError(
            f"augment.transforms: the source of {name!r}, by which a run knows it when "
            "it resumes, cannot be read: define it in a file or in a notebook"
        ) from error
    return f"{name} (sha256 {hashlib.sha256(source.encode()).hexdigest()[:12]})"


def check_arguments(function: Callable[..., Any], settings: Mapping[str, Any]) -> None:
    """Raises UserError if a function does not take a key, an image and the settings."""
    try:
        inspect.signature(function).bind("key", "image", **settings)
    except (TypeError, ValueError) as error:
        name = name_of(function)
        raise UserError(
            f"augment.{name}: {name}(key, image, **settings) fails: {error}"
        ) from error
