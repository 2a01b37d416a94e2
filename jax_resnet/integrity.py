"""SHA-256 digests, by which damage to a checkpoint is noticed."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

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
    text = json.dumps(_digest_files(folder), indent=1)
    temporary = folder / f".{MANIFEST}"
    temporary.write_text(text)
    temporary.replace(folder / MANIFEST)


def matches_manifest(folder: Path) -> bool:
    """Whether every file in a folder is as its manifest says, if it has one."""
    try:
        expected = json.loads((folder / MANIFEST).read_text())
    except FileNotFoundError:
        return True
    except (OSError, ValueError):
        return False
    return expected == _digest_files(folder)


def _digest_files(folder: Path) -> dict[str, str]:
    digests = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name not in (MANIFEST, f".{MANIFEST}"):
            name = path.relative_to(folder).as_posix()
            digests[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return digests
