"""A PyTorch ``state_dict`` in a file.

Written as ``.safetensors``, which needs no PyTorch. What ``torch.save`` wrote is read
too, without running the code that it may contain.
"""

import argparse
import json
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from jax_resnet.checkpoint.metadata import Architecture
from jax_resnet.formats.pytorch_names import from_torch, to_torch
from jax_resnet.predictor import Predictor
from jax_resnet.runtime.errors import UserError
from jax_resnet.runtime.files import write_atomically
from jax_resnet.runtime.packages import require
from jax_resnet.runtime.text import say

_IN_EACH = "layer1.0.conv1.weight"  # a tensor of each network of the family
_DTYPES = {  # of safetensors; NumPy has bfloat16 from JAX
    **{"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"},
    **{"I64": "int64", "I32": "int32"},
}


def write(predictor: Predictor, path: Path) -> None:
    """Writes the ``state_dict``; its metadata say what the network takes.

    Raises UserError if the shortcuts are not projections, or it cannot be written.
    """
    arrays = predictor.params | predictor.batch_stats
    tensors = to_torch(arrays, step=predictor.step)
    info = predictor.info
    metadata = {
        "format": "pt",
        "input": "float32 [n, channels, height, width], RGB, (levels/255 - mean) / std",
        "mean": json.dumps(info.mean),
        "std": json.dumps(info.std),
        "classes": json.dumps(info.class_names),
    }
    write_atomically(path, safetensors.numpy.save(tensors, metadata))


def load(path: Path, predictor: Predictor) -> Predictor:
    """Loads the file, with the metadata of the model that was written."""
    _, arrays = read(path)
    return Predictor(replace(predictor.stored, arrays=arrays))


def read(path: Path) -> tuple[Architecture, dict[str, np.ndarray]]:
    """Reads the only network of a file, wherever in it its ``state_dict`` is.

    It may lie in dictionaries, such as ``{"model": state_dict, "epoch": 3}``, and its
    names may have a prefix, such as ``module.`` or ``_orig_mod.``. Prints where it is.

    Returns the architecture, and the arrays by their names in a checkpoint. Raises
    :class:`UserError` if the file cannot be read, or holds no network of this family,
    or several.
    """
    read_tensors = _read_safetensors if path.suffix == ".safetensors" else _read_torch
    try:
        network = _only_network(read_tensors(path))
        architecture, arrays = from_torch(
            {name: _to_numpy(tensor) for name, tensor in network.tensors.items()}
        )
    except UserError as error:
        raise UserError(f"{str(path)!r} cannot be imported: {error}") from error
    if network.place:
        say(f"{path}: the network is {network.place!r}")
    if network.beside:
        more = f" and {len(network.beside) - 1} more" if len(network.beside) > 1 else ""
        say(f"{path}: left out, beside the network: {network.beside[0]!r}{more}")
    kinds = {"mean": "batch_stats", "var": "batch_stats"}
    named = {
        f"state.{kinds.get(name.rpartition('.')[2], 'params')}.{name}": array
        for name, array in arrays.items()
    }
    return architecture, named


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    try:
        views = safetensors.deserialize(path.read_bytes())
        return {
            name: np.frombuffer(view["data"], _DTYPES[view["dtype"]]).reshape(
                view["shape"]
            )
            for name, view in views
        }
    # KeyError: a dtype that NumPy lacks.
    except (safetensors.SafetensorError, KeyError) as error:
        raise UserError("it is damaged, or has numbers that NumPy lacks") from error


def _read_torch(path: Path) -> Any:
    require("torch", extra="torch")
    import torch

    # Training scripts keep their arguments beside the weights.
    torch.serialization.add_safe_globals([argparse.Namespace])
    try:
        # PyTorch would take a path for UTF-8 in any locale.
        with warnings.catch_warnings(action="ignore"), path.open("rb") as file:
            return torch.load(file, map_location="cpu", weights_only=True)
    # It raises whatever the layers of the file's format do.
    except Exception as error:
        if foreign := re.search(r"GLOBAL ([\w.]+)", str(error)):
            raise UserError(
                f"it has more than tensors, a {foreign[1]}: load it where it was made, "
                "and save model.state_dict() alone"
            ) from error
        raise UserError("it is damaged, or torch.save has not written it") from error


@dataclass(frozen=True)
class _Network:
    """The ``state_dict`` of a network in a file."""

    place: str  # the keys and the prefix before its names; "" if there are none
    tensors: dict[str, Any]  # by name without the prefix
    beside: list[str]  # tensors of the same dictionary that have another prefix


def _only_network(loaded: Any) -> _Network:
    """Returns the network of a file; raises UserError if there is none, or several."""
    if not isinstance(loaded, Mapping):
        raise UserError("it is not a state_dict")
    networks = list(_networks(loaded))
    if not networks:
        raise UserError(
            f"no tensor {_IN_EACH!r}: the names must be those of pytorch-cifar-models, "
            "with projections as shortcuts"
        )
    if len(networks) > 1:
        places = " and ".join(repr(network.place) for network in networks)
        raise UserError(
            f"it has {len(networks)} networks, {places}: save the state_dict of one of "
            "them alone"
        )
    return networks[0]


def _networks(loaded: Mapping[Any, Any], place: str = "") -> Iterator[_Network]:
    """Finds the networks in nested dictionaries."""
    tensors = {str(name): t for name, t in loaded.items() if hasattr(t, "ndim")}
    for name in tensors:
        prefix, found, rest = name.rpartition(_IN_EACH)
        if found and not rest and (not prefix or prefix.endswith(".")):
            yield _Network(
                f"{place}{prefix}".removesuffix("."),
                {
                    name.removeprefix(prefix): tensor
                    for name, tensor in tensors.items()
                    if name.startswith(prefix)
                },
                [name for name in tensors if not name.startswith(prefix)],
            )
    for key, value in loaded.items():
        if isinstance(value, Mapping):
            yield from _networks(value, f"{place}{key}.")


def _to_numpy(tensor: Any) -> np.ndarray:
    """Returns a tensor of PyTorch or NumPy; bfloat16 becomes float32."""
    if isinstance(tensor, np.ndarray):
        return tensor.astype(np.float32) if tensor.dtype == "bfloat16" else tensor
    tensor = tensor.detach()
    if tensor.is_sparse or tensor.is_meta:
        raise UserError(
            "it has sparse tensors, or tensors without values: save dense ones"
        )
    return (tensor.float() if tensor.is_floating_point() else tensor).numpy()
