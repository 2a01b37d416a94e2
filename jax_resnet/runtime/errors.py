"""The error for everything that the user can fix."""

import difflib
from collections.abc import Iterable

from jax_resnet.runtime.text import printable


class UserError(ValueError):
    """The user must change something: an argument, a config, data, a checkpoint.

    The message is one line that says what is wrong and what to do about it. What is not
    printable in it is escaped.

    Attributes:
        exit_code: exit code of a command that ends with this error.
    """

    exit_code = 2

    def __init__(self, message: str):
        super().__init__(printable(message))


def nearest(name: str, known: Iterable[str]) -> str:
    """Returns ``; did you mean 'x'?`` for the closest known name, or ""."""
    matches = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {matches[0]!r}?" if matches else ""
