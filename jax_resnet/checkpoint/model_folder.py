"""A model as a folder of two files that need no orbax.

``model.safetensors`` has the arrays. ``config.json`` has the metadata of the run, and
the SHA-256 digests of the arrays' file and of itself. Loading them executes nothing.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from jax_resnet.checkpoint.digests import digest_json
from jax_resnet.checkpoint.metadata import RunMetadata
from jax_resnet.runtime.errors import UserError
from jax_resnet.runtime.files import new_file

FORMAT_VERSION = 1
WEIGHTS, CONFIG = "model.safetensors", "config.json"
_PREFIX = "state."  # of the names in a checkpoint, where the optimizer has others


@dataclasses.dataclass(frozen=True)
class StoredModel:
    """What a model is made of.

    Attributes:
        metadata: of the run that trained it.
        arrays: parameters and statistics as a checkpoint names them.
        step: number of training steps taken.
        temperature: that the logits are divided by for probabilities.
    """

    metadata: RunMetadata
    arrays: Mapping[str, np.ndarray]
    step: int
    temperature: float = 1.0


def is_model_folder(path: Path) -> bool:
    """Whether a path is meant to be such a folder, sound or not."""
    return (path / WEIGHTS).exists()


def write(folder: Path, model: StoredModel) -> None:
    """Writes both files into a folder that exists.

    Raises:
        OSError: if they cannot be written.
    """
    # The format has no strides: of any other array, the wrong numbers are saved.
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
    # As it will be read: JSON has lists for tuples.
    config["digests"][CONFIG] = digest_json(json.loads(json.dumps(config)))
    with new_file(folder / WEIGHTS, durable=True) as file:
        file.write(weights)
    with new_file(folder / CONFIG, durable=True) as file:
        file.write((json.dumps(config, indent=2) + "\n").encode())


def read(folder: Path) -> StoredModel:
    """Reads both files and checks them against their digests.

    Raises:
        UserError: if anything is not what was written, or another version of this
            package wrote it.
    """
    try:
        config = json.loads(_read_file(folder / CONFIG))
        digest = config["digests"].pop(CONFIG)
        if digest != digest_json(config):
            raise ValueError("the digest of the config")
        version = config["format_version"]
        if type(version) is not int:
            raise ValueError("the format's version")
    except _UNREADABLE as error:
        raise _damaged(folder, CONFIG) from error
    if version != FORMAT_VERSION:
        raise UserError(
            f"model {str(folder)!r} has format {version}, and this version of "
            f"jax_resnet reads {FORMAT_VERSION}: use the version that wrote it"
        )
    try:
        step, temperature, run = (config[k] for k in ("step", "temperature", "run"))
        if type(step) is not int or step < 0:
            raise ValueError("the step")
        if type(temperature) is not float or not 0 < temperature < math.inf:
            raise ValueError("the temperature")
        if not isinstance(run, dict):
            raise TypeError("the run")
    except _UNREADABLE as error:
        raise _damaged(folder, CONFIG) from error
    try:
        weights = _read_file(folder / WEIGHTS)
        if hashlib.sha256(weights).hexdigest() != config["digests"][WEIGHTS]:
            raise ValueError("the digest of the arrays")
        tensors = safetensors.numpy.load(weights)
    except (*_UNREADABLE, safetensors.SafetensorError) as error:
        raise _damaged(folder, WEIGHTS) from error
    arrays = {_PREFIX + name: array for name, array in tensors.items()}
    return StoredModel(RunMetadata.from_json(run), arrays, step, temperature)


_UNREADABLE = (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError)


def _read_file(path: Path) -> bytes:
    # Reading a pipe would wait for ever.
    if not path.is_file():
        raise FileNotFoundError(path)
    return path.read_bytes()


def _damaged(folder: Path, name: str) -> UserError:
    return UserError(
        f"model {str(folder)!r} is damaged, in {name}: export or download it again"
    )
