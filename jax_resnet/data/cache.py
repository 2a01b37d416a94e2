"""Arrays that are expensive to make, kept in a file that may always be deleted.

A file is used only if it was made from the same source (its fingerprint) and every
byte is as it was written. (An ``.npz`` would not do: a flipped bit in the header of
an array makes NumPy read a part of it, before its checksum.) A cache that cannot be
read or written costs time, never the run.
"""

import contextlib
import fcntl
import json
import logging
import math
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np

from jax_resnet.runtime.files import new_file

Arrays = Mapping[str, np.ndarray]

_FORMAT = 1  # to be raised when what is stored changes its meaning
_log = logging.getLogger(__name__)


def load_or_make(path: Path, fingerprint: str, make: Callable[[], Arrays]) -> Arrays:
    """Returns the arrays stored at ``path``, made and stored first if need be.

    Args:
      path: the file; its folders are created.
      fingerprint: of all that the arrays depend on. A file that was stored with
        another one is made again.
      make: makes the arrays; whatever it raises is raised. Of several processes that
        need them at once, one makes them.
    """
    stamp = _stamp(path)
    arrays = load(path, fingerprint)
    if arrays is None:
        with _alone(path):
            if _stamp(path) != stamp:  # another process was here first
                arrays = load(path, fingerprint)
            if arrays is None:
                arrays = make()
                _save(path, fingerprint, arrays)
    return arrays


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Waits for other processes that make the same file, where files can be locked."""
    lock = path.with_name(f".{path.name}.lock")
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(lock.open("ab"))
            fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            # Who comes between waits for nobody, which costs time and nothing else.
            with contextlib.suppress(OSError):
                lock.unlink(missing_ok=True)


def load(path: Path, fingerprint: str) -> Arrays | None:
    """Returns the arrays stored at ``path``, or None if there are no valid ones."""
    try:
        with path.open("rb") as file:
            return _read(file, fingerprint)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        _log.warning("making the cache %s again: %s", path, error)
        return None


# A file is a line with the CRC-32 of the header, a line with the header, which is
# JSON and holds the CRC-32 of all that follows, and the arrays one after the other.


def _read(file: BinaryIO, fingerprint: str) -> Arrays:
    checksum, line = file.readline(), file.readline()
    if int(checksum, 16) != zlib.crc32(line):
        raise ValueError("it is damaged")
    header = json.loads(line)
    if [header["format"], header["fingerprint"]] != [_FORMAT, fingerprint]:
        raise ValueError("its source has changed")
    arrays = {}
    found = 0
    for name, dtype, shape in header["arrays"]:
        array = np.fromfile(file, dtype, math.prod(shape))
        found = zlib.crc32(array.data, found)
        arrays[name] = array
    if found != header["crc32"]:
        raise ValueError("it is damaged")
    return {name: arrays[name].reshape(shape) for name, _, shape in header["arrays"]}


def _save(path: Path, fingerprint: str, arrays: Arrays) -> None:
    checksum = 0
    for array in arrays.values():
        checksum = zlib.crc32(array.data, checksum)
    header = {
        "format": _FORMAT,
        "fingerprint": fingerprint,
        "crc32": checksum,
        "arrays": [(name, a.dtype.str, a.shape) for name, a in arrays.items()],
    }
    line = json.dumps(header).encode() + b"\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with new_file(path, shared=True) as file:
            file.write(b"%08x\n" % zlib.crc32(line) + line)
            for array in arrays.values():
                file.write(array.data)
    except OSError as error:
        _log.info("no cache in %s: %s", path.parent, error)
