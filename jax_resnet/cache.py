"""Arrays that are expensive to make, kept in a file that may always be deleted.

A file is used only if it was made from the same source (its fingerprint) and is
undamaged (the CRC-32 that a zip file, hence an ``.npz``, holds for each member).
A cache that cannot be read or written costs time, never the run.
"""

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np

Arrays = Mapping[str, np.ndarray]

_FORMAT = 1  # raise when what is stored changes its meaning
_log = logging.getLogger(__name__)


def default_folder() -> Path:
    """Returns ``$JAX_RESNET_CACHE``, or ``jax_resnet`` in the user's cache folder."""
    if own := os.environ.get("JAX_RESNET_CACHE"):
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.path.expanduser(base)) / "jax_resnet"  # noqa: PTH111 (may lack HOME)


def load_or_make(path: Path, fingerprint: str, make: Callable[[], Arrays]) -> Arrays:
    """Returns the arrays stored at ``path``, made and stored first if need be.

    Args:
      path: the ``.npz`` file; its folders are created.
      fingerprint: of all that the arrays depend on. A file that was stored with
        another one is made again.
      make: makes the arrays; whatever it raises is raised.
    """
    arrays = load(path, fingerprint)
    if arrays is None:
        arrays = make()
        _save(path, fingerprint, arrays)
    return arrays


def load(path: Path, fingerprint: str) -> Arrays | None:
    """Returns the arrays stored at ``path``, or None if there are no valid ones."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            if str(stored["fingerprint"]) == f"{_FORMAT} {fingerprint}":
                return {name: stored[name] for name in stored if name != "fingerprint"}
            reason = "its source has changed"
    except FileNotFoundError:
        return None
    # A damaged file makes NumPy and zipfile raise nearly anything.
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
    _log.warning("making the cache %s again (%s)", path, reason)
    return None


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """Opens a file that appears at ``path`` when the block ends, or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            yield file
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _save(path: Path, fingerprint: str, arrays: Arrays) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with new_file(path) as file:
            stored = {"fingerprint": np.array(f"{_FORMAT} {fingerprint}"), **arrays}
            np.savez(file, **stored)  # type: ignore[arg-type]  # for allow_pickle
    except OSError as error:
        _log.info("no cache in %s: %s", path.parent, error)
