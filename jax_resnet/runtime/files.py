"""Writes files that appear whole or not at all."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from jax_resnet.runtime.errors import UserError


@contextlib.contextmanager
def new_file(path: Path, *, shared: bool = False) -> Iterator[BinaryIO]:
    """Opens a file that replaces ``path`` once it is whole and on the disk.

    With ``shared``, other processes may be writing ``path`` as well. Without it, the
    next process overwrites what a killed one has left. If it raises OSError, ``path``
    is as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid() if shared else 'tmp'}")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_atomically(path: Path, data: bytes) -> None:
    """Replaces a file at once, so that readers see its old content or the new.

    Links and devices such as ``/dev/stdout`` are written to as they are. If it raises
    :class:`UserError`, the file is as it was.
    """
    with write_errors_explained(path):
        if path.is_symlink() or (path.exists() and not path.is_file()):
            path.write_bytes(data)
            return
        with new_file(path) as file:
            file.write(data)


def is_writable(path: Path) -> bool:
    """Returns whether a file can be written, as far as can be seen before."""
    return not path.is_dir() and os.access(
        path if path.exists() else path.parent, os.W_OK
    )


@contextlib.contextmanager
def write_errors_explained(path: Path) -> Iterator[None]:
    """Turns an OSError into a UserError that names the file."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}; make room there or make "
            "it writable, then run the same command again"
        ) from error
