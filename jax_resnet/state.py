"""The training state: arrays only, so that it can be donated, saved and compared."""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array

from jax_resnet.errors import UserError
from jax_resnet.model import ResNet

# A state lives on the device or in host memory.
Leaf = Array | np.ndarray
Arrays = dict[str, Leaf]
T = TypeVar("T")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Weights:
    """What a model is made of.

    Attributes:
        params: float32 parameters by dotted name, such as ``head.kernel``.
        batch_stats: float32 running statistics of BatchNorm by dotted name.
    """

    params: Arrays
    batch_stats: Arrays


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """Everything that a training step changes.

    Attributes:
        step: number of steps taken, an int32 scalar.
        params: see :class:`Weights`.
        batch_stats: likewise.
        opt_state: the optimizer's state.
        average: of the weights over the steps, where the run keeps one.
    """

    step: Leaf
    params: Arrays
    batch_stats: Arrays
    opt_state: Any
    average: Weights | None = None

    @property
    def weights(self) -> Weights:
        """What is evaluated, saved as the model, and served."""
        return self.average or Weights(self.params, self.batch_stats)

    def restarted(self, weights: Weights) -> "TrainState":
        """The state with other weights, also as the average."""
        average = None if self.average is None else jax.tree.map(jnp.copy, weights)
        return dataclasses.replace(
            self,
            params=weights.params,
            batch_stats=weights.batch_stats,
            average=average,
        )


def split(model: ResNet) -> tuple[nnx.GraphDef[ResNet], Arrays, Arrays]:
    """A model's static definition, its parameters and its BatchNorm statistics."""
    graphdef, params, batch_stats = nnx.split(model, nnx.Param, nnx.BatchStat)
    return graphdef, _flatten(params), _flatten(batch_stats)


def merge(
    graphdef: nnx.GraphDef[ResNet], params: Arrays, batch_stats: Arrays
) -> ResNet:
    """The model made of what :func:`split` returned."""
    return nnx.merge(graphdef, _unflatten(params), _unflatten(batch_stats))


def create(
    model: ResNet,
    optimizer: optax.GradientTransformation,
    *,
    with_average: bool = False,
) -> tuple[nnx.GraphDef[ResNet], TrainState]:
    """The model's static definition, and the state before the first step."""
    graphdef, params, batch_stats = split(model)
    weights = Weights(params, batch_stats)
    state = TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=batch_stats,
        opt_state=optimizer.init(params),
        average=weights if with_average else None,
    )
    return graphdef, state.restarted(weights)


def parameter_count(params: Arrays) -> int:
    """Number of trainable scalars."""
    return sum(array.size for array in params.values())


def to_arrays(tree: Any) -> dict[str, np.ndarray]:
    """The leaves of a pytree in host memory, by dotted path."""
    return {name: np.asarray(leaf) for name, leaf in _by_path(tree).items()}


def from_arrays(template: T, arrays: Mapping[str, np.ndarray]) -> T:
    """The pytree of a template's structure with the arrays that have its paths.

    Args:
        template: of arrays, or of shapes and dtypes alone.
        arrays: by dotted path.

    Raises:
        UserError: if a path is missing or left over, or a shape or dtype differs.
    """
    expected = _by_path(template)
    if different := set(expected) ^ set(arrays):
        raise UserError(f"another model or optimizer: {sorted(different)[0]} differs")
    for name, leaf in expected.items():
        found = arrays[name]
        if (found.shape, found.dtype) != (leaf.shape, leaf.dtype):
            raise UserError(
                f"another model: {name} is {found.dtype}{list(found.shape)}, "
                f"not {leaf.dtype}{list(leaf.shape)}"
            )
    # At once, which takes a twentieth of the time of one by one.
    leaves = jax.device_put([arrays[name] for name in expected])
    return jax.tree.unflatten(jax.tree.structure(template), leaves)


def _by_path(tree: Any) -> dict[str, Any]:
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _flatten(state: Any) -> Arrays:
    return {
        ".".join(map(str, path)): variable[...]
        for path, variable in nnx.to_flat_state(state)
    }


def _unflatten(arrays: Arrays) -> dict[Any, Any]:
    nested: dict[Any, Any] = {}
    for name, array in arrays.items():
        *parents, leaf = (int(k) if k.isdigit() else k for k in name.split("."))
        node = nested
        for key in parents:
            node = node.setdefault(key, {})
        node[leaf] = array
    return nested
