"""What the command lines share: arguments, exit codes, one line for an error."""

import argparse
import contextlib
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable
from typing import NoReturn

import jax

from jax_resnet.runtime.errors import UserError
from jax_resnet.runtime.memory import is_out_of_memory


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def __init__(self, **settings: object):
        super().__init__(allow_abbrev=False, **settings)  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        """Raises :class:`UserError`."""
        raise UserError(f"{message}; see {self.prog} --help")


def run(main: Callable[[], int]) -> NoReturn:
    """Runs a command line's main function and exits with its code.

    A :class:`UserError`, and what the operating system or the device's memory
    refuses, become one line on standard error and exit code 2.
    """
    if sys.stdout is None or sys.stderr is None:  # closed, as by ``>&-``
        nowhere = open(os.devnull, "w")  # noqa: SIM115, PTH123 (until exit)
        sys.stdout, sys.stderr = sys.stdout or nowhere, sys.stderr or nowhere
    # By force, because absl has made itself the root's handler when it was imported.
    logging.basicConfig(format="%(message)s", level=logging.WARNING, force=True)
    # Orbax logs every save, and tracebacks of what it raises all the same.
    for name in ("absl", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    logging.getLogger("jax_resnet").setLevel(logging.INFO)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    try:
        if any("\udc80" <= character <= "\udcff" for character in "".join(sys.argv)):
            raise UserError("an argument is not UTF-8, and what a run writes is")
        code = main()
        sys.stdout.flush()
    except UserError as error:
        _fail(str(error))
        code = error.exit_code
    except KeyboardInterrupt:
        code = 128 + signal.SIGINT
    except BrokenPipeError:  # whoever read standard output has gone (``| head``)
        code = 1
    except OSError as error:
        code = _fail(str(error))
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        code = _fail(
            "out of memory: use a smaller batch or model; training takes a batch in "
            "parts with --config.train.accumulation"
        )
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    # All is written. Python would tear down libraries that XLA's threads may still be
    # at work in, which ends in a crash now and then, and look at every object first.
    os._exit(code)


def _fail(message: str) -> int:
    print("error: " + " ".join(message.split()), file=sys.stderr)
    return 2
