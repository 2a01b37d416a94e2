"""Schedules and optimizers on a toy tree, against PyTorch and their definitions."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jax_resnet.training.optimizer import (
    make_optimizer,
    make_schedule,
    scaled_learning_rate,
)


@pytest.mark.parametrize(
    ("name", "decay"),
    [
        ("cosine", 0.05 * (1 + np.cos(np.pi * np.arange(100) / 100))),
        ("linear", 0.1 * (1 - np.arange(100) / 100)),
        ("step", np.repeat([0.1, 0.02, 4e-3, 8e-4], [30, 30, 20, 20])),
        ("constant", np.full(100, 0.1)),
    ],
)
def test_warmup_rises_linearly_then_the_rate_decays(name, decay):
    rates = np.asarray(make_schedule(name, 0.1, 110, 10)(jnp.arange(110)))
    rise = np.arange(10) / 100
    np.testing.assert_allclose(rates, [*rise, *decay], atol=1e-7)
    alone = np.asarray(make_schedule(name, 0.1, 100)(jnp.arange(100)))
    np.testing.assert_allclose(alone, decay, atol=1e-7)


@pytest.fixture
def optax_promotes():
    """Optax's Adam and Muon mix dtypes that strict promotion refuses."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.mark.torch
@pytest.mark.usefixtures("optax_promotes")
@pytest.mark.parametrize(
    ("name", "nesterov"), [("sgd", False), ("sgd", True), ("adamw", False)]
)
def test_updates_are_pytorchs(name, nesterov):
    torch = pytest.importorskip("torch")
    schedule = make_schedule("constant", 0.01, 9)
    ours = make_optimizer(name, schedule, nesterov=nesterov, weight_decay=0.1)
    rng = np.random.default_rng(0)
    start = rng.standard_normal((3, 4)).astype(np.float32)
    theirs = torch.nn.Parameter(torch.from_numpy(start.copy()))
    optimizer = (
        torch.optim.AdamW([theirs], 0.01, weight_decay=0.1)
        if name == "adamw"
        else torch.optim.SGD([theirs], 0.01, 0.9, weight_decay=0.1, nesterov=nesterov)
    )
    params = {"head.kernel": jnp.asarray(start)}
    opt_state = ours.init(params)
    for _ in range(4):
        gradient = rng.standard_normal((3, 4)).astype(np.float32)
        updates, opt_state = ours.update(
            {"head.kernel": jnp.asarray(gradient)}, opt_state, params
        )
        params = optax.apply_updates(params, updates)
        theirs.grad = torch.from_numpy(gradient)
        optimizer.step()
    expected = theirs.detach().numpy()
    np.testing.assert_allclose(params["head.kernel"], expected, atol=1e-5)


def orthogonalised(matrix):
    """The quintic Newton-Schulz iteration of Jordan et al. 2024."""
    x = matrix / (np.linalg.norm(matrix) + 1e-8)
    x, is_tall = (x.T, True) if x.shape[0] > x.shape[1] else (x, False)
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x.T if is_tall else x


@pytest.mark.slow
@pytest.mark.usefixtures("optax_promotes")
def test_muon_turns_each_kernel_as_a_matrix_of_its_filters():
    rate, decay = 0.05, 0.1
    muon = make_optimizer(
        "muon",
        make_schedule("constant", rate, 9),
        momentum=0.8,
        weight_decay=decay,
        weight_decay_on="kernels",
        adam_ratio=0.1,
    )
    rng = np.random.default_rng(0)
    shapes = {"a.conv.kernel": (3, 3, 4, 6), "a.norm.scale": (6,), "head.bias": (5,)}

    def draw():
        return {
            name: jnp.asarray(rng.standard_normal(shape, np.float32))
            for name, shape in shapes.items()
        }

    start = params = draw()
    opt_state, update = muon.init(params), jax.jit(muon.update)
    kernel, momentum = np.float64(start["a.conv.kernel"]).reshape(36, 6), 0.0
    for step in range(3):
        gradients = draw()
        updates, opt_state = update(gradients, opt_state, params)
        params = optax.apply_updates(params, updates)
        gradient = np.float64(gradients["a.conv.kernel"]).reshape(36, 6)
        momentum = 0.8 * momentum + 0.2 * gradient
        corrected = momentum / (1 - 0.8 ** (step + 1))
        # Of the width: max(1, fan out / fan in) ** 0.5 is 1 here.
        kernel = kernel - rate * (orthogonalised(corrected) + decay * kernel)
    found = np.asarray(params["a.conv.kernel"]).reshape(36, 6)
    np.testing.assert_allclose(found, kernel, atol=2e-4)
    # AdamW moves by its learning rate in the first step, whatever the gradient.
    first, _ = update(start, muon.init(params), params)
    np.testing.assert_allclose(np.abs(first["a.norm.scale"]), 0.1 * rate, rtol=1e-3)


PARAMS = {
    "a.conv.kernel": jnp.ones((3, 3, 2, 4)),
    "a.norm.scale": jnp.ones(4),
    "b.conv.kernel": jnp.ones((3, 3, 2, 4)),
    "head.kernel": jnp.ones((4, 5)),
}


@pytest.mark.slow
@pytest.mark.usefixtures("optax_promotes")
@pytest.mark.parametrize("name", ["sgd", "adamw", "muon"])
@pytest.mark.parametrize("decay_on", ["all", "kernels"])
def test_decay_without_gradients(name, decay_on):
    schedule = make_schedule("constant", 0.1, 9)
    optimizer = make_optimizer(
        name, schedule, weight_decay=0.2, weight_decay_on=decay_on
    )
    zeros = jax.tree.map(jnp.zeros_like, PARAMS)
    found, _ = jax.jit(optimizer.update)(zeros, optimizer.init(PARAMS), PARAMS)
    for field, update in found.items():
        decayed = decay_on == "all" or field.endswith("kernel")
        np.testing.assert_allclose(update, -0.02 if decayed else 0, atol=1e-7)


@pytest.mark.usefixtures("optax_promotes")
@pytest.mark.parametrize("name", ["sgd", "adamw", "muon"])
def test_all_updates_read_the_rate_from_one_array(name):
    optimizer = make_optimizer(name, make_schedule("cosine", 0.1, 9))
    lowered = jax.jit(optimizer.update).lower(PARAMS, optimizer.init(PARAMS), PARAMS)
    barriers = re.findall(r"optimization_barrier \S+ : (\S+)", lowered.as_text())
    assert set(barriers) == {"tensor<2xf32>"}


@pytest.mark.parametrize(
    ("scaling", "expected"), [("none", 0.1), ("linear", 0.8), ("sqrt", 0.1 * 8**0.5)]
)
def test_learning_rates_for_larger_batches(scaling, expected):
    found = scaled_learning_rate(
        0.1, batch_size=1024, base_batch_size=128, scaling=scaling
    )
    assert found == pytest.approx(expected)
