"""What the command lines share: arguments, exit codes, one line for an error."""

import argparse
import logging
import os
import sys
import warnings
from collections.abc import Callable
from typing import NoReturn

from jax_resnet.errors import UserError


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def __init__(self, **settings: object):
        super().__init__(allow_abbrev=False, **settings)  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        """Raises :class:`UserError`."""
        raise UserError(f"{message}; see {self.prog} --help")


def run(main: Callable[[], int]) -> NoReturn:
    """Runs a command line's main function and exits with its code.

    A :class:`UserError` becomes one line on standard error and exit code 2.
    """
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    # Orbax logs every save, and tracebacks of what it raises all the same.
    for name in ("absl", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    logging.getLogger("jax_resnet").setLevel(logging.INFO)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    try:
        code = main()
        sys.stdout.flush()
    except UserError as error:
        print("error: " + " ".join(str(error).split()), file=sys.stderr)
        code = 2
    except BrokenPipeError:
        # Whoever read standard output has gone (``| head``). Python would complain
        # once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    sys.exit(code)
