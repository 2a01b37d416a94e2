"""A training step on one batch, all of it given."""

import jax
import jax.numpy as jnp

from jax_resnet.training.metrics import RunningMetrics


def on_batch(train_step):
    """Compiles ``(state, images, labels, key) -> (state, metrics)``."""

    def step(state, images, labels, key):
        order = jnp.arange(len(labels), dtype=jnp.int32)[None, None]
        zeros = RunningMetrics.zeros()
        return train_step((state, zeros), images, labels, order, key)

    return jax.jit(step)
