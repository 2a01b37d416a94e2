"""A run directory belongs to one process at a time."""

import contextlib
import fcntl
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

from jax_resnet.errors import UserError


@contextlib.contextmanager
def claimed(workdir: Path) -> Iterator[None]:
    """Creates the directory and holds its lock, which dies with the process.

    Raises:
        UserError: if the directory cannot be made or written, or another process
            holds it.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        # A lock file alone can be open to us in a directory that is not.
        with tempfile.TemporaryFile(dir=workdir):
            pass
        lock = (workdir / ".lock").open("a+")
    except OSError as error:
        raise UserError(
            f"cannot write to workdir {str(workdir)!r}: {error.strerror}; "
            "choose another with --workdir"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise UserError(
                f"workdir {str(workdir)!r} is in use by {lock.read().strip()}; "
                "wait for it, stop it, or choose another with --workdir"
            ) from None
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        lock.flush()
        yield
