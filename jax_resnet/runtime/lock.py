"""A run directory belongs to one process at a time."""

import contextlib
import fcntl
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

from jax_resnet.runtime.errors import UserError


@contextlib.contextmanager
def workdir_lock(workdir: Path) -> Iterator[None]:
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
        # Unbuffered, as what cannot be written would fail again when it is closed.
        lock = (workdir / ".lock").open("a+b", buffering=0)
    except OSError as error:
        raise _unwritable(workdir, error) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().decode(errors="replace").strip()
            raise UserError(
                f"workdir {str(workdir)!r} is in use by {holder}; "
                "wait for it, stop it, or choose another with --workdir"
            ) from None
        try:
            lock.truncate(0)
            lock.write(f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        except OSError as error:
            raise _unwritable(workdir, error) from error
        yield


def _unwritable(workdir: Path, error: OSError) -> UserError:
    return UserError(
        f"cannot write to workdir {str(workdir)!r}: {error.strerror}; make room, or "
        "choose another with --workdir"
    )
