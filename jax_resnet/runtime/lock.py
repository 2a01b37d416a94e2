"""Locks a run directory, which belongs to one process at a time."""

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from jax_resnet.runtime.errors import UserError


@contextlib.contextmanager
def workdir_lock(workdir: Path) -> Iterator[None]:
    """Creates a directory and holds its lock, which ends with the process.

    Raises UserError if the directory cannot be written, or another process holds it.
    """
    with contextlib.ExitStack() as stack:
        try:
            workdir.mkdir(parents=True, exist_ok=True)
            # Unbuffered, so that a full disk raises here and not on closing.
            lock = (workdir / ".lock").open("a+b", buffering=0)
            stack.enter_context(lock)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            lock.truncate(0)
            lock.write(f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().decode(errors="replace").strip()
            raise UserError(
                f"workdir {str(workdir)!r} is in use by {holder}; "
                "wait for it, stop it, or choose another with --workdir"
            ) from None
        except OSError as error:
            raise UserError(
                f"cannot write to workdir {str(workdir)!r}: {error.strerror}; make "
                "room, or choose another with --workdir"
            ) from error
        yield
