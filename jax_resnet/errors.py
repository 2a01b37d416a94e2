"""What happens when the user must change something: one line, exit code 2."""

import difflib
import sys
from collections.abc import Callable, Iterable
from typing import NoReturn


class UserError(ValueError):
    """The user must change something: an argument, a config, data, a checkpoint.

    The message is one line that says what is wrong and what to do about it.
    """


def nearest(name: str, known: Iterable[str]) -> str:
    """Returns ``; did you mean 'x'?`` for the closest known name, or nothing."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {matches[0]!r}?" if matches else ""


def run_command(main: Callable[[], int]) -> NoReturn:
    """Runs a command line's main function and exits with its code.

    A :class:`UserError` becomes one line on standard error and exit code 2.
    """
    try:
        code = main()
    except UserError as error:
        print("error: " + " ".join(str(error).split()), file=sys.stderr)
        code = 2
    except BrokenPipeError:
        # The reader of standard output has gone (``| head``): not our failure.
        sys.stderr.close()
        code = 1
    sys.exit(code)
