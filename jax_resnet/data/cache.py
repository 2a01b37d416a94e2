"""Caches arrays that are expensive to make, in ``.npz`` files.

A cache that cannot be read or written costs time and fails no run. Any file of it may
be deleted.
"""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jax_resnet.runtime.files import new_file

Arrays = Mapping[str, np.ndarray]

_log = logging.getLogger(__name__)


def load_or_make(path: Path, fingerprint: str, make: Callable[[], Arrays]) -> Arrays:
    """Returns the arrays stored in a file; makes and stores them if they are not.

    The fingerprint identifies what the arrays were made from: a file with another one
    is made again. Several processes may do so at once.
    """
    arrays = _load(path, fingerprint)
    if arrays is None:
        arrays = make()
        _save(path, fingerprint, arrays)
    return arrays


def _load(path: Path, fingerprint: str) -> Arrays | None:
    try:
        with np.load(path) as stored:
            # Checksums come first, because NumPy would follow a damaged header.
            if stored.zip.testzip() is None:
                arrays = dict(stored)
                if arrays.pop("fingerprint") == fingerprint:
                    return arrays
    except (FileNotFoundError, NotADirectoryError):
        return None
    except Exception:  # zipfile and NumPy raise nearly anything for a damaged file
        pass
    _log.warning("%s is damaged, or its source has changed: making it again", path)
    return None


def _save(path: Path, fingerprint: str, arrays: Arrays) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with new_file(path, shared=True) as file:
            contents: dict[str, Any] = {"fingerprint": fingerprint, **arrays}
            np.savez(file, **contents)
    except OSError as error:
        _log.info("no cache in %s: %s", path.parent, error)
