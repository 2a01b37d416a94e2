"""The parts of a ResNet by name: the stem, three stages of blocks, and the head."""

from collections.abc import Collection

from flax import nnx

from jax_resnet.model.batch_norm import BatchNorm
from jax_resnet.model.resnet import ResNet
from jax_resnet.model.weights import split


def part_of(name: str, depth: int) -> str:
    """Returns the part that an array belongs to: stem, stage1 to stage3, or head.

    Args:
        name: dotted name of the array, such as ``blocks.4.conv1.norm.mean``.
        depth: depth of the network.
    """
    part, *inner = name.split(".")
    blocks_per_stage = (depth - 2) // 6
    return f"stage{1 + int(inner[0]) // blocks_per_stage}" if part == "blocks" else part


def freeze(model: ResNet, parts: Collection[str], depth: int) -> frozenset[str]:
    """Makes BatchNorm of the parts use its running statistics in training too.

    Returns the names of the parts' parameters and statistics.
    """
    for path, module in nnx.iter_modules(model):
        name = ".".join(map(str, path))
        if isinstance(module, BatchNorm) and part_of(name, depth) in parts:
            module.use_running_average = True
    _, params, batch_stats = split(model)
    return frozenset(n for n in params | batch_stats if part_of(n, depth) in parts)
