"""A PyTorch ``state_dict`` in a file.

Written as ``.safetensors``, which needs no PyTorch. What ``torch.save`` wrote is read
too, without running the code that it may contain.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import safetensors.numpy

from jax_resnet.checkpoint.metadata import Architecture
from jax_resnet.formats.pytorch_names import from_torch, to_torch
from jax_resnet.predictor import Predictor
from jax_resnet.runtime.errors import UserError
from jax_resnet.runtime.files import write_atomically
from jax_resnet.runtime.packages import require


def write(predictor: Predictor, path: Path) -> None:
    """Writes the ``state_dict``.

    Raises UserError if the shortcuts are not projections, the file's name does not end
    in ``.safetensors``, or the file cannot be written.
    """
    if path.suffix != ".safetensors":
        raise UserError("--output of --format pytorch must end in .safetensors")
    arrays = predictor.params | predictor.batch_stats
    tensors = to_torch(arrays, step=predictor.step)
    write_atomically(path, safetensors.numpy.save(tensors))


def load(path: Path, predictor: Predictor) -> Predictor:
    """Loads the file, with the metadata of the model that was written."""
    _, arrays = read(path)
    return Predictor(replace(predictor.stored, arrays=arrays))


def read(path: Path) -> tuple[Architecture, dict[str, np.ndarray]]:
    """Reads a ``state_dict``: bare, or under the key ``state_dict`` or ``model``.

    Returns the architecture, and the arrays by their names in a checkpoint. Raises
    :class:`UserError` if it cannot be read, or is not of a network of this family.
    """
    if not path.is_file():
        raise UserError(f"no file {str(path)!r}: give a state_dict of PyTorch")
    read_tensors = _read_safetensors if path.suffix == ".safetensors" else _read_torch
    try:
        architecture, arrays = from_torch(read_tensors(path))
    except UserError as error:
        raise UserError(f"{str(path)!r} cannot be imported: {error}") from error
    kinds = {"mean": "batch_stats", "var": "batch_stats"}
    named = {
        f"state.{kinds.get(name.rpartition('.')[2], 'params')}.{name}": array
        for name, array in arrays.items()
    }
    return architecture, named


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    try:
        return safetensors.numpy.load(path.read_bytes())
    # KeyError: a dtype that NumPy lacks.
    except (safetensors.SafetensorError, KeyError) as error:
        raise UserError("it is damaged, or has numbers that NumPy lacks") from error


def _read_torch(path: Path) -> dict[str, np.ndarray]:
    require("torch", extra="torch")
    import torch

    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    # It raises whatever the layers of the file's format do.
    except Exception as error:
        raise UserError("it is damaged, or has more than tensors") from error
    for key in ("state_dict", "model"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping) or not all(
        isinstance(name, str) and isinstance(tensor, torch.Tensor)
        for name, tensor in loaded.items()
    ):
        raise UserError("it is not a state_dict")
    return {
        # NumPy has no bfloat16.
        name: (t.float() if t.is_floating_point() else t).detach().numpy()
        for name, t in loaded.items()
    }
