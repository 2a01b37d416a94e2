"""Outputs that get their name only when they are complete."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from jax_resnet.runtime.errors import UserError


@contextlib.contextmanager
def new_output(path: Path) -> Iterator[Path]:
    """Gives a temporary path for a file or folder, which moves to ``path`` at the end.

    Missing parents are made. If the block raises, nothing else is left. Raises
    UserError if ``path`` exists, and OSError if its parent cannot be written.
    """
    check_free(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        dir=path.parent, prefix=".export-", ignore_cleanup_errors=True
    ) as folder:
        temporary = Path(folder) / path.name
        yield temporary
        check_free(path)
        temporary.rename(path)


def check_free(path: Path) -> None:
    """Raises UserError if a path exists."""
    if os.path.lexists(path):
        raise UserError(f"{str(path)!r} exists: choose another --output")
