"""What all command lines share: arguments, exit codes, errors of one line.

Commands check their arguments before they import JAX, which takes seconds.
"""

import argparse
import contextlib
import io
import logging
import os
import re
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from jax_resnet.runtime.errors import UserError
from jax_resnet.runtime.memory import is_out_of_memory
from jax_resnet.runtime.text import printable


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def __init__(self, **settings: object):
        super().__init__(allow_abbrev=False, **settings)  # type: ignore[arg-type]

    def add_checkpoint(self) -> None:
        """Adds the option ``--checkpoint`` of the commands that open a model."""
        self.add_argument(
            "--checkpoint",
            default="best",
            type=_checkpoint,
            help="best (the default), latest or a step",
        )

    def error(self, message: str) -> NoReturn:
        """Raises UserError."""
        raise UserError(f"{message}; see {self.prog} --help")


def run(main: Callable[[], int]) -> NoReturn:
    """Runs the main function of a command line, and exits with its code.

    A :class:`UserError`, an error of the operating system, and running out of memory
    become one line on standard error and exit code 2. What standard output cannot
    encode, and what is not printable in a message, is escaped.
    """
    _prepare_streams()
    # Forced, because importing absl has given the root logger a handler.
    logging.basicConfig(level=logging.WARNING, force=True)
    logging.getLogger().handlers[0].setFormatter(_MessageFormatter())
    # Orbax logs every save, and the tracebacks of errors that it raises anyway.
    for name in ("absl", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    logging.getLogger("jax_resnet").setLevel(logging.INFO)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    warnings.formatwarning = lambda text, *_, **__: f"warning: {printable(str(text))}\n"
    code = _exit_code(main)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    # An ordinary exit tears down libraries that XLA's threads may still be using, which
    # now and then ends in a crash.
    os._exit(code)


def _prepare_streams() -> None:
    for name in ("stdout", "stderr"):
        if (stream := getattr(sys, name)) is None:  # it is closed, as by ``>&-``
            nowhere = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
            setattr(sys, name, nowhere)
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _exit_code(main: Callable[[], int]) -> int:
    """Returns the exit code of a main function, and prints its errors as lines."""
    try:
        code = main()
        sys.stdout.flush()
        return code
    except UserError as error:
        _print_error(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:  # the reader of standard output has gone, as in ``| head``
        return 1
    except OSError as error:
        return _print_error(str(error))
    except ValueError as error:
        # JAX checks its variables of the environment when it is imported.
        if "jax" in sys.modules or "jax._src" not in sys.modules:
            raise
        names = (name for name in os.environ if re.match("JAX_(?!RESNET_)", name))
        return _print_error(
            f"JAX refuses the environment's {', '.join(names)}: {error}"
        )
    except (MemoryError, RuntimeError) as error:  # JAX's are RuntimeErrors
        if not is_out_of_memory(error):
            raise
        return _print_error(
            "out of memory: use a smaller batch or model; training takes a batch in "
            "parts with --config.train.accumulation"
        )


def _checkpoint(text: str) -> str:
    if text not in ("best", "latest") and not text.isdecimal():
        raise argparse.ArgumentTypeError(
            f"must be best, latest or a step, not {text!r}"
        )
    return text


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


class _MessageFormatter(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        return printable(record.message)


def _print_error(message: str) -> int:
    print("error: " + printable(" ".join(message.splitlines())), file=sys.stderr)
    return UserError.exit_code
