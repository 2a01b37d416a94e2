"""PyTorch's names and layouts of these networks.

They are torchvision's for ResNets, with three layers: ``conv1``, ``bn1``,
``layer1.0.conv1``, ``layer2.0.downsample.0``, ``fc``. The ``cifar*_resnet*`` models of
https://github.com/chenyaofo/pytorch-cifar-models have them. Only models with
projection shortcuts have a counterpart.
"""

import re
from collections.abc import Iterator, Mapping

import numpy as np

from jax_resnet.checkpoint.metadata import Architecture
from jax_resnet.runtime.errors import UserError, nearest

_COUNTER = "num_batches_tracked"
_NORM = {
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}


def to_torch(arrays: Mapping[str, np.ndarray], *, step: int) -> dict[str, np.ndarray]:
    """Converts a model to a ``state_dict`` that loads with ``strict=True``.

    ``step`` is the number of batches that each BatchNorm of PyTorch counts. Raises
    :class:`UserError` if the shortcuts are not projections.
    """
    blocks = {name.split(".")[1] for name in arrays if name.startswith("blocks.")}
    names = dict(_names(len(blocks) // 3))
    if set(names) != set(arrays):
        raise UserError(
            "only models with model.shortcut=projection can be exported: PyTorch has "
            "no network with the other shortcut"
        )
    tensors = {}
    for ours, theirs in names.items():
        array = arrays[ours]  # of a convolution HWIO, of the last layer [in, out]
        array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
        tensors[theirs] = np.ascontiguousarray(array)
        if theirs.endswith("running_var"):
            counter = theirs.replace("running_var", _COUNTER)
            tensors[counter] = np.array(step, np.int64)
    return tensors


def from_torch(
    tensors: Mapping[str, np.ndarray],
) -> tuple[Architecture, dict[str, np.ndarray]]:
    """Converts a ``state_dict`` to a model.

    Returns the architecture, from the shapes, and float32 arrays by dotted name, whose
    shapes :class:`~jax_resnet.predictor.Predictor` checks. Raises UserError if a tensor
    is missing or superfluous, or has no floats.
    """
    first = [re.match(r"layer1\.(\d{1,3})\.", name) for name in tensors]
    per_stage = max((int(match[1]) + 1 for match in first if match), default=1)
    names = dict(_names(per_stage))
    if missing := sorted(set(names.values()) - set(tensors)):
        raise UserError(
            f"no tensor {missing[0]!r}{nearest(missing[0], tensors)}; the names must "
            "be those of pytorch-cifar-models, with projections as shortcuts"
        )
    for name in sorted(set(tensors) - set(names.values())):
        if not name.endswith(_COUNTER):
            raise UserError(f"tensor {name!r} has no place in a ResNet of this family")
    stem, head = tensors["conv1.weight"], tensors["fc.weight"]
    if (stem.ndim, head.ndim) != (4, 2) or stem.shape[0] % 16 or not stem.size:
        raise UserError(
            f"conv1 is of shape {stem.shape} and fc of {head.shape}: conv1 must have "
            "16 filters, or a multiple of that"
        )
    arrays = {}
    for ours, theirs in names.items():
        array = tensors[theirs]
        if array.dtype.kind != "f":
            raise UserError(f"tensor {theirs!r} is of {array.dtype}, not of floats")
        array = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T
        arrays[ours] = np.ascontiguousarray(array, np.float32)
    architecture = Architecture(
        depth=6 * per_stage + 2,
        width=stem.shape[0] // 16,
        shortcut="projection",
        dtype="float32",
        num_classes=head.shape[0],
        in_channels=stem.shape[1],
    )
    return architecture, arrays


def _names(per_stage: int) -> Iterator[tuple[str, str]]:
    """Yields our names and PyTorch's, for a number of blocks in each stage."""
    yield from _layer("stem", "conv1", "bn1")
    for index in range(3 * per_stage):
        stage, within = divmod(index, per_stage)
        ours, theirs = f"blocks.{index}", f"layer{stage + 1}.{within}"
        yield from _layer(f"{ours}.conv1", f"{theirs}.conv1", f"{theirs}.bn1")
        yield from _layer(f"{ours}.conv2", f"{theirs}.conv2", f"{theirs}.bn2")
        if stage > 0 and within == 0:
            shortcut = f"{theirs}.downsample"
            yield from _layer(f"{ours}.projection", f"{shortcut}.0", f"{shortcut}.1")
    yield "head.kernel", "fc.weight"
    yield "head.bias", "fc.bias"


def _layer(ours: str, conv: str, norm: str) -> Iterator[tuple[str, str]]:
    yield f"{ours}.conv.kernel", f"{conv}.weight"
    for leaf, theirs in _NORM.items():
        yield f"{ours}.norm.{leaf}", f"{norm}.{theirs}"
