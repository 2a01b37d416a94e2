"""The average of the weights: its formula, and its BatchNorm statistics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from step_fixtures import BATCH, images_and_labels, make_loss, network, scale

from jax_resnet.model.weights import Weights, merge
from jax_resnet.training.ema import Ema, mean_statistics
from jax_resnet.training.step import make_statistics_step


def test_update_against_its_definition():
    rng = np.random.default_rng(0)
    expected = rng.standard_normal(5)
    found = Weights({"w": jnp.asarray(expected, jnp.float32)}, {"mean": jnp.ones(2)})
    for step in range(40):
        params = rng.standard_normal(5)
        decay = min(0.7, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * params
        params = {"w": jnp.asarray(params, jnp.float32)}
        found = Ema(0.7).update(found, params, jnp.int32(step))
    np.testing.assert_allclose(found.params["w"], expected, atol=1e-6)
    np.testing.assert_array_equal(found.batch_stats["mean"], np.ones(2))


@pytest.mark.slow
def test_statistics_are_the_means_over_batches():
    graphdef, state = network()
    images, labels = images_and_labels()
    step = jax.jit(make_statistics_step(make_loss()))
    order = jnp.arange(40, dtype=jnp.int32).reshape(5, 1, BATCH)
    weights = Weights(state.params, {})
    carry = jax.tree.map(jnp.zeros_like, state.batch_stats), jnp.int32(3)
    for _ in range(2):
        carry = step(carry, images, labels, order, jax.random.key(2), weights)
    total, done = carry
    assert int(done) == 5
    found = mean_statistics(total, 2)
    # The first layer's are the statistics of its outputs.
    stem = merge(graphdef, state.params, state.batch_stats).stem.conv
    batches = [
        np.asarray(stem(scale(images[BATCH * i : BATCH * (i + 1)]))) for i in (3, 4)
    ]
    mean, variance = (
        np.mean([f(b, (0, 1, 2)) for b in batches], 0) for f in (np.mean, np.var)
    )
    np.testing.assert_allclose(found["stem.norm.mean"], mean, atol=1e-5)
    np.testing.assert_allclose(found["stem.norm.var"], variance, rtol=1e-4)
