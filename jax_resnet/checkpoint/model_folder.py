"""Writes and reads a model as a folder of two files, without orbax.

``model.safetensors`` has the arrays. ``config.json`` has the metadata of the run, and
the SHA-256 digests of the arrays' file and of itself. Loading them executes nothing.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import safetensors.numpy
from pydantic import Field, TypeAdapter
from typing_extensions import TypedDict

from jax_resnet.checkpoint.digests import digest_json
from jax_resnet.checkpoint.metadata import RunMetadata
from jax_resnet.checkpoint.store import FORMAT_VERSION, check_version
from jax_resnet.runtime.errors import UserError
from jax_resnet.runtime.files import new_file

WEIGHTS, CONFIG = "model.safetensors", "config.json"
_PREFIX = "state."  # of the names in a checkpoint, which also has an optimizer


class _Config(TypedDict):
    format_version: int
    step: Annotated[int, Field(ge=0)]
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    run: dict[str, Any]
    digests: dict[str, str]


_CONFIG = TypeAdapter(_Config)


@dataclasses.dataclass(frozen=True)
class StoredModel:
    """A trained model in host memory."""

    metadata: RunMetadata  # of the run that trained it
    # parameters and BatchNorm statistics, by their names in a checkpoint
    arrays: Mapping[str, np.ndarray]
    step: int  # number of training steps taken
    temperature: float = 1.0  # divides the logits before the softmax


def is_model_folder(path: Path) -> bool:
    """Returns whether a path is such a folder, damaged or not."""
    return (path / WEIGHTS).exists()


def write(folder: Path, model: StoredModel) -> None:
    """Writes both files into an existing folder.

    Raises OSError if they cannot be written.
    """
    # Of an array that is not contiguous, safetensors saves the wrong numbers.
    tensors = {
        name.removeprefix(_PREFIX): np.ascontiguousarray(array)
        for name, array in model.arrays.items()
    }
    weights = safetensors.numpy.save(tensors)
    config: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "step": model.step,
        "temperature": model.temperature,
        "run": dataclasses.asdict(model.metadata),
        "digests": {WEIGHTS: hashlib.sha256(weights).hexdigest()},
    }
    # The digest is of what will be read: JSON turns tuples into lists.
    config["digests"][CONFIG] = digest_json(json.loads(json.dumps(config)))
    with new_file(folder / WEIGHTS) as file:
        file.write(weights)
    with new_file(folder / CONFIG) as file:
        file.write((json.dumps(config, indent=2) + "\n").encode())


def read(folder: Path) -> StoredModel:
    """Reads both files and checks them against their digests.

    Raises UserError if anything differs, or another version wrote it.
    """
    try:
        values = json.loads((folder / CONFIG).read_bytes())
        if values["digests"].pop(CONFIG) != digest_json(values):
            raise ValueError("the digest differs")
        config = _CONFIG.validate_python(values, strict=True)
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise _damaged(folder, CONFIG, error) from error
    check_version(f"model {str(folder)!r}", config["format_version"])
    try:
        weights = (folder / WEIGHTS).read_bytes()
        if hashlib.sha256(weights).hexdigest() != config["digests"].get(WEIGHTS):
            raise ValueError("the digest differs")
        tensors = safetensors.numpy.load(weights)
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise _damaged(folder, WEIGHTS, error) from error
    arrays = {_PREFIX + name: array for name, array in tensors.items()}
    metadata = RunMetadata.from_json(config["run"])
    return StoredModel(metadata, arrays, config["step"], config["temperature"])


def _damaged(folder: Path, name: str, error: Exception) -> UserError:
    if isinstance(error, PermissionError):
        return UserError(f"cannot read {str(folder / name)!r}: {error.strerror}")
    return UserError(
        f"model {str(folder)!r} is damaged, in {name}: export or download it again"
    )
