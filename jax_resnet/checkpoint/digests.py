"""SHA-256 digests, which tell whether saved values are still what was saved."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np


def digest_arrays(tree: Mapping[str, np.ndarray]) -> str:
    """Returns the digest of arrays: of their names, dtypes, shapes and bytes."""
    digest = hashlib.sha256()
    for name in sorted(tree):
        array = np.ascontiguousarray(tree[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def digest_json(value: Any) -> str:
    """Returns the digest of a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
