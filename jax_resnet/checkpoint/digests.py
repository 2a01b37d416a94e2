"""SHA-256 digests, by which damage to a checkpoint is noticed."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jax_resnet.runtime.files import new_file

MANIFEST = "manifest.json"


def digest_arrays(tree: Mapping[str, np.ndarray]) -> str:
    """The digest of arrays: their names, dtypes, shapes and bytes."""
    digest = hashlib.sha256()
    for name in sorted(tree):
        array = np.ascontiguousarray(tree[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def digest_json(value: Any) -> str:
    """The digest of a value that JSON can hold."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def write_manifest(folder: Path) -> None:
    """Writes the digest of every file in a folder into one more file."""
    digests = _digest_files(folder)
    with new_file(folder / MANIFEST) as file:
        file.write(json.dumps(digests, indent=1).encode())


def matches_manifest(folder: Path) -> bool:
    """Whether a folder has a manifest, which every file in it then matches.

    Raises:
        ValueError: if a file, or the manifest, is not what was written.
        OSError: if one cannot be read.
    """
    # Reading a pipe would wait for ever.
    if not all(path.is_file() or path.is_dir() for path in folder.rglob("*")):
        raise ValueError("neither a file nor a folder")
    try:
        expected = json.loads((folder / MANIFEST).read_text())
    except FileNotFoundError:
        return False
    if expected != _digest_files(folder):
        raise ValueError(f"not what {MANIFEST} says")
    return True


def _digest_files(folder: Path) -> dict[str, str]:
    digests = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.lstrip(".").startswith(MANIFEST):
            name = path.relative_to(folder).as_posix()
            digests[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return digests
