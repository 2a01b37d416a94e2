"""A model as a PyTorch state_dict in a file, and such files as models.

The file is in the safetensors format, which needs no PyTorch, or in that of
``torch.save`` if its name ends in ``.pt`` or ``.pth``. Nothing that is loaded is
executed.
"""

import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from jax_resnet.checkpoint.metadata import Architecture
from jax_resnet.formats import Probabilities
from jax_resnet.formats.output import require, write_file
from jax_resnet.formats.pytorch_names import from_torch, to_torch
from jax_resnet.model.weights import to_arrays
from jax_resnet.predict import Predictor
from jax_resnet.runtime.errors import UserError

TORCH_SUFFIXES = (".pt", ".pth")


def write(predictor: Predictor, path: Path) -> None:
    """Writes the state_dict.

    Raises:
        UserError: if the model's shortcuts have no counterpart, or PyTorch is needed
            and not installed.
        OSError: if the file cannot be written.
    """
    if path.suffix not in (".safetensors", *TORCH_SUFFIXES):
        raise UserError(
            "--output of --format pytorch must end in .safetensors, .pt or .pth"
        )
    arrays = predictor.params | predictor.batch_stats
    tensors = to_torch(arrays, step=predictor.step)
    if path.suffix == ".safetensors":
        write_file(path, safetensors.numpy.save(tensors))
        return
    require("torch", extra="torch")
    import torch

    buffer = io.BytesIO()
    # A copy, because PyTorch takes no arrays that are read-only.
    torch.save({k: torch.from_numpy(v.copy()) for k, v in tensors.items()}, buffer)
    write_file(path, buffer.getvalue())


def load(path: Path, predictor: Predictor) -> Probabilities:
    """The model of a file that :func:`write` wrote, for comparison.

    Raises:
        UserError: if its arrays are not exactly the model's.
    """
    architecture, arrays = read(path)
    expected = predictor.stored.arrays
    if architecture != predictor.metadata.model or any(
        not np.array_equal(arrays[name], array) for name, array in expected.items()
    ):
        raise UserError(f"what was written to {path.name} is not the restored model")
    return Predictor(replace(predictor.stored, arrays=arrays)).predict


def read(path: Path) -> tuple[Architecture, dict[str, np.ndarray]]:
    """Reads a state_dict: bare, or in a dictionary under ``state_dict`` or ``model``.

    Returns:
        The architecture, and the arrays as a checkpoint of ours names them.

    Raises:
        UserError: if it cannot be read, or is not of a network of this family.
    """
    if not path.is_file():
        raise UserError(f"no file {str(path)!r}: give a state_dict of PyTorch")
    tensors = _read_safetensors if path.suffix == ".safetensors" else _read_torch
    try:
        architecture, arrays = from_torch(tensors(path))
    except UserError as error:
        raise UserError(f"{str(path)!r} cannot be imported: {error}") from error
    statistics = {k: v for k, v in arrays.items() if k.endswith((".mean", ".var"))}
    params = {k: v for k, v in arrays.items() if k not in statistics}
    tree = {"state": {"params": params, "batch_stats": statistics}}
    return architecture, to_arrays(tree)


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    try:
        return safetensors.numpy.load(path.read_bytes())
    # The last for dtypes that NumPy has not.
    except (safetensors.SafetensorError, KeyError) as error:
        raise UserError("it is damaged, or not of numbers that NumPy has") from error


def _read_torch(path: Path) -> dict[str, np.ndarray]:
    require("torch", extra="torch")
    import torch

    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    # It raises whatever the layers of the file's format do.
    except Exception as error:
        raise UserError("it is damaged, or not tensors alone") from error
    for key in ("state_dict", "model"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping) or not all(
        isinstance(name, str) and isinstance(tensor, torch.Tensor)
        for name, tensor in loaded.items()
    ):
        raise UserError("it is not a state_dict")
    return {name: _to_numpy(tensor) for name, tensor in loaded.items()}


def _to_numpy(tensor: Any) -> np.ndarray:
    if tensor.is_floating_point():
        tensor = tensor.float()  # NumPy has no bfloat16
    return tensor.detach().numpy()
