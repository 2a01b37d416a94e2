"""The training state: arrays only, so that it can be donated, saved and compared."""

import dataclasses
from collections.abc import Collection
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jax_resnet.model.resnet import ResNet
from jax_resnet.model.weights import Arrays, Leaf, Weights, split


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """Everything that a training step changes."""

    step: Leaf  # number of steps taken, an int32 scalar
    params: Arrays  # as in :class:`~jax_resnet.model.weights.Weights`
    batch_stats: Arrays
    opt_state: Any
    # the moving average of the weights; None where the run keeps none
    average: Weights | None = None

    @property
    def weights(self) -> Weights:
        """The weights that are evaluated, saved as the model, and served."""
        return self.average or Weights(self.params, self.batch_stats)

    def with_weights(self, weights: Weights) -> "TrainState":
        """The state with other weights, in the average too."""
        average = None if self.average is None else jax.tree.map(jnp.copy, weights)
        return dataclasses.replace(
            self,
            params=weights.params,
            batch_stats=weights.batch_stats,
            average=average,
        )


def create_train_state(
    model: ResNet,
    optimizer: optax.GradientTransformation,
    *,
    with_average: bool = False,
    frozen: Collection[str] = (),
) -> tuple[nnx.GraphDef[ResNet], TrainState]:
    """Returns the model's static definition and the state before the first step.

    The optimizer has no state for the ``frozen`` parameters.
    """
    graphdef, params, batch_stats = split(model)
    weights = Weights(params, batch_stats)
    average = jax.tree.map(jnp.copy, weights) if with_average else None
    trained = {name: array for name, array in params.items() if name not in frozen}
    step, opt_state = np.zeros((), np.int32), optimizer.init(trained)
    return graphdef, TrainState(step, params, batch_stats, opt_state, average)
