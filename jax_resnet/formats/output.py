"""Outputs that appear under their name only when they are whole and checked."""

import contextlib
import importlib.util
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from jax_resnet.runtime.errors import UserError


@contextlib.contextmanager
def new_output(path: Path) -> Iterator[Path]:
    """A place beside ``path`` for a file or folder that moves there at the end.

    If the block raises, nothing is left.

    Raises:
        UserError: if the path is taken, or there is no folder to put it in.
        OSError: if the folder cannot be written.
    """
    _check_free(path)
    if not path.parent.is_dir():
        raise UserError(
            f"no folder {str(path.parent)!r} for --output: make it, or choose another"
        )
    with tempfile.TemporaryDirectory(
        dir=path.parent, prefix=".export-", ignore_cleanup_errors=True
    ) as folder:
        temporary = Path(folder) / path.name
        yield temporary
        _check_free(path)
        temporary.rename(path)


def write_file(path: Path, contents: bytes) -> None:
    """Writes a file, and waits until the disk has it: only then does it say if full."""
    with path.open("wb") as file:
        file.write(contents)
        file.flush()
        os.fsync(file.fileno())


def require(*packages: str, extra: str) -> None:
    """Checks that optional packages are installed.

    Raises:
        UserError: if one is not, with the extra that brings it.
    """
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise UserError(
                f"this needs {package}, which is not installed: "
                f'pip install -e ".[{extra}]"'
            )


def _check_free(path: Path) -> None:
    if os.path.lexists(path):
        raise UserError(f"{str(path)!r} exists: remove it, or choose another --output")
