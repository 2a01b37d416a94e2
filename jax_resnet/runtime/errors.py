"""The error for everything that the user can fix."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """The user must change something: an argument, a config, data, a checkpoint.

    The message is one line that says what is wrong and what to do about it.

    Attributes:
        exit_code: exit code of a command that ends with this error.
    """

    exit_code = 2


def nearest(name: str, known: Iterable[str]) -> str:
    """Returns ``; did you mean 'x'?`` for the closest known name, or ""."""
    matches = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {matches[0]!r}?" if matches else ""
