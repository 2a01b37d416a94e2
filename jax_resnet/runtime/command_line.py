"""What all command lines share: arguments, exit codes, errors of one line.

Commands check their arguments before they import JAX, which takes seconds.
"""

import argparse
import contextlib
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable
from typing import NoReturn

from jax_resnet.runtime.errors import UserError
from jax_resnet.runtime.memory import is_out_of_memory


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def __init__(self, **settings: object):
        super().__init__(allow_abbrev=False, **settings)  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        """Raises UserError."""
        raise UserError(f"{message}; see {self.prog} --help")


def run(main: Callable[[], int]) -> NoReturn:
    """Runs the main function of a command line, and exits with its code.

    A :class:`UserError`, an error of the operating system, and running out of memory
    become one line on standard error and exit code 2.
    """
    # Forced, because importing absl has given the root logger a handler.
    logging.basicConfig(format="%(message)s", level=logging.WARNING, force=True)
    # Orbax logs every save, and the tracebacks of errors that it raises anyway.
    for name in ("absl", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    logging.getLogger("jax_resnet").setLevel(logging.INFO)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    try:
        code = main()
        sys.stdout.flush()
    except UserError as error:
        _print_error(str(error))
        code = error.exit_code
    except KeyboardInterrupt:
        code = 128 + signal.SIGINT
    except BrokenPipeError:  # the reader of standard output has gone, as in ``| head``
        code = 1
    except OSError as error:
        code = _print_error(str(error))
    except (MemoryError, RuntimeError) as error:  # JAX's are RuntimeErrors
        if not is_out_of_memory(error):
            raise
        code = _print_error(
            "out of memory: use a smaller batch or model; training takes a batch in "
            "parts with --config.train.accumulation"
        )
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    # An ordinary exit tears down libraries that XLA's threads may still be using, which
    # now and then ends in a crash.
    os._exit(code)


def parse_seeds(text: str) -> list[int]:
    """Parses ``0,1,2``: different whole numbers from 0 to 2**32 - 1."""
    try:
        seeds = [int(part) for part in text.split(",")]
    except ValueError:
        seeds = []
    in_range = all(0 <= seed < 2**32 for seed in seeds)
    if not seeds or not in_range or len(set(seeds)) < len(seeds):
        raise UserError(
            f"--seeds must be different whole numbers such as 0,1,2, not {text!r}"
        )
    return seeds


def _print_error(message: str) -> int:
    print("error: " + " ".join(message.split()), file=sys.stderr)
    return UserError.exit_code
