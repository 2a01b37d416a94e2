"""SAM and ASAM against their papers' formulas, written out for PyTorch's numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from step_fixtures import on_batch

from jax_resnet.model import resnet
from jax_resnet.runtime.errors import UserError
from jax_resnet.training import optimizer
from jax_resnet.training.loss import Loss, Preprocessing
from jax_resnet.training.sam import Sam
from jax_resnet.training.state import create_train_state
from jax_resnet.training.step import StepOptions, make_train_step

BATCH = 8


def trees(seed=0):
    rng = np.random.default_rng(seed)
    shapes = {"a.conv.kernel": (3, 3, 2, 4), "a.norm.scale": (4,), "a.norm.bias": (4,)}
    return tuple(
        {n: rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()}
        for _ in range(2)
    )


def as_jax(tree):
    return jax.tree.map(jnp.asarray, tree)


def test_sam_moves_by_rho_along_the_gradient():
    params, gradients = trees()
    found = Sam(0.05).ascend(as_jax(params), as_jax(gradients))
    norm = np.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in gradients.values()))
    for name, value in params.items():
        expected = value + 0.05 * gradients[name] / norm
        np.testing.assert_allclose(found[name], expected, rtol=1e-5, atol=1e-6)


def test_asam_measures_relative_to_each_parameter():
    params, gradients = trees()
    found = Sam(2.0, adaptive=True).ascend(as_jax(params), as_jax(gradients))
    t = {
        n: np.abs(v).astype(np.float64) + 0.01 if not n.endswith("bias") else 1.0
        for n, v in params.items()
    }
    norm = np.sqrt(sum(((t[n] * g) ** 2).sum() for n, g in gradients.items()))
    for name, value in params.items():
        expected = value + 2.0 * t[name] ** 2 * gradients[name] / norm
        np.testing.assert_allclose(found[name], expected, rtol=1e-5, atol=1e-6)
    # The distance of the paper's definition is rho.
    moved = {n: (np.asarray(found[n]) - params[n]) / t[n] for n in params}
    assert np.sqrt(sum((m**2).sum() for m in moved.values())) == pytest.approx(2, 1e-4)


def test_no_gradient_moves_nothing():
    params, gradients = trees()
    still = {name: 0 * value for name, value in gradients.items()}
    found = Sam(1.0).ascend(as_jax(params), as_jax(still))
    for name, value in params.items():
        np.testing.assert_array_equal(found[name], value)


def test_a_step_takes_its_gradients_up_there():
    sgd = optimizer.make_optimizer("sgd", optimizer.make_schedule("constant", 0.1, 9))
    network = resnet.initialize(jax.random.key(0), depth=8, num_classes=5)
    graphdef, before = create_train_state(network, sgd)

    def scale(images):
        return images.astype(jnp.float32) / 128

    loss = Loss(graphdef, Preprocessing(lambda _, x, epoch: scale(x), scale))
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.integers(0, 256, (BATCH, 8, 8, 3), np.uint8))
    labels = jnp.asarray(rng.integers(0, 5, BATCH, np.int32))
    batch = {"images": scale(images), "labels": labels}
    sam = Sam(0.5, adaptive=True)
    step = on_batch(make_train_step(loss, sgd, StepOptions(sam=sam)))
    found, metrics = step(before, images, labels, jax.random.key(1))

    gradients = jax.jit(jax.grad(loss, has_aux=True))
    below, (expected, statistics) = gradients(before.params, before.batch_stats, batch)
    above = sam.ascend(before.params, below)
    second, _ = gradients(above, before.batch_stats, batch)
    np.testing.assert_allclose(metrics.loss, expected.loss, rtol=1e-5)
    for name, value in before.params.items():
        decayed = second[name] + 5e-4 * value
        np.testing.assert_allclose(
            found.params[name], value - 0.1 * decayed, rtol=1e-4, atol=1e-5
        )
    for name, value in statistics.items():
        np.testing.assert_allclose(found.batch_stats[name], value, rtol=1e-5, atol=1e-6)


def test_bad_radius():
    with pytest.raises(UserError, match="sam_rho must be from 0 to 100, and is -1"):
        Sam(-1.0)
