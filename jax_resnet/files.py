"""Files that appear whole or not at all."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


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
