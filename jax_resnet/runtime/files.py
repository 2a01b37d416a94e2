"""Files that appear whole or not at all."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from jax_resnet.runtime.errors import UserError


@contextlib.contextmanager
def new_file(
    path: Path, *, durable: bool = False, shared: bool = False
) -> Iterator[BinaryIO]:
    """Opens a file that replaces ``path`` when the block ends, or not at all.

    Args:
        path: in a folder that exists.
        durable: it is on the disk when the block ends, should the power fail.
        shared: other processes may be writing ``path`` too. Otherwise what a killed
            process leaves behind is overwritten by the next.

    Raises:
        OSError: if it cannot be written; what was at ``path`` is as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid() if shared else 'tmp'}")
    try:
        with temporary.open("wb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_atomically(path: Path, data: bytes) -> None:
    """Replaces a file in one move: readers see the old content or the new.

    What is no plain file, such as ``/dev/stdout`` or a link, is written to as it is.

    Args:
        path: The file, in a folder that exists.
        data: Its new content.

    Raises:
        UserError: It cannot be written; the old file is as it was.
    """
    with naming_file(path):
        if path.is_symlink() or (path.exists() and not path.is_file()):
            path.write_bytes(data)
            return
        with new_file(path, durable=True) as file:
            file.write(data)


@contextlib.contextmanager
def naming_file(path: Path) -> Iterator[None]:
    """Turns what the operating system refuses into a line that names the file."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}; make room there or make "
            "it writable, then run the same command again"
        ) from error


def cache_folder() -> Path:
    """Returns ``$JAX_RESNET_CACHE``, or ``jax_resnet`` in the user's cache folder."""
    if own := os.environ.get("JAX_RESNET_CACHE"):
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.path.expanduser(base)) / "jax_resnet"  # noqa: PTH111 (may lack HOME)
