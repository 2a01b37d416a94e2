import jax.numpy as jnp
import numpy as np
import pytest

from jax_resnet import optimizer
from jax_resnet.errors import UserError


def test_cosine_decays_from_the_peak_to_zero():
    schedule = optimizer.make_schedule("cosine", 0.1, 100)
    steps = np.arange(101)
    expected = 0.05 * (1 + np.cos(np.pi * steps / 100))
    np.testing.assert_allclose(schedule(jnp.asarray(steps)), expected, atol=1e-8)


def test_warmup_rises_linearly_then_decays():
    schedule = optimizer.make_schedule("cosine", 0.1, 110, warmup_steps=10)
    rates = np.asarray(schedule(jnp.arange(111)))
    np.testing.assert_allclose(rates[:11], np.linspace(0, 0.1, 11), atol=1e-8)
    expected = 0.05 * (1 + np.cos(np.pi * np.arange(101) / 100))
    np.testing.assert_allclose(rates[10:], expected, atol=1e-7)


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("decay_on", ["all", "kernels"])
def test_sgd_against_its_definition(nesterov, decay_on):
    sgd = optimizer.make_optimizer(
        "sgd",
        optimizer.make_schedule("cosine", 0.1, 3),
        nesterov=nesterov,
        weight_decay=0.01,
        weight_decay_on=decay_on,
    )
    params = {"conv.kernel": jnp.array([2.0, -1.0]), "norm.scale": jnp.array([1.0])}
    gradients = {"conv.kernel": jnp.array([0.5, 1.0]), "norm.scale": jnp.array([-1.0])}
    opt_state = sgd.init(params)
    expected = {name: np.asarray(p, np.float64) for name, p in params.items()}
    velocity = dict.fromkeys(params, 0.0)
    for step in range(3):
        updates, opt_state = sgd.update(gradients, opt_state, params)
        params = {name: params[name] + updates[name] for name in params}
        rate = 0.05 * (1 + np.cos(np.pi * step / 3))
        for name in expected:
            decay = 0.01 if decay_on == "all" or name.endswith("kernel") else 0.0
            gradient = np.asarray(gradients[name]) + decay * expected[name]
            velocity[name] = 0.9 * velocity[name] + gradient
            move = gradient + 0.9 * velocity[name] if nesterov else velocity[name]
            expected[name] = expected[name] - rate * move
    for name in expected:
        np.testing.assert_allclose(params[name], expected[name], rtol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"momentum": 1.0}, "momentum"),
        ({"weight_decay": -1.0}, "weight_decay"),
        ({"weight_decay": float("nan")}, "weight_decay"),
        ({"weight_decay_on": "none"}, "weight_decay_on"),
    ],
)
def test_bad_sgd(settings, message):
    with pytest.raises(UserError, match=message):
        optimizer.make_optimizer(
            "sgd", optimizer.make_schedule("cosine", 0.1, 3), **settings
        )


@pytest.mark.parametrize(
    "arguments", [(-0.1, 10), (float("nan"), 10), (0.1, 10, 10), (0.1, 10, -1)]
)
def test_bad_schedule(arguments):
    with pytest.raises(UserError, match="optimizer"):
        optimizer.make_schedule("cosine", *arguments)


@pytest.mark.parametrize(
    ("scaling", "expected"), [("none", 0.1), ("linear", 0.8), ("sqrt", 0.1 * 8**0.5)]
)
def test_learning_rates_for_larger_batches(scaling, expected):
    found = optimizer.scaled_learning_rate(
        0.1, batch_size=1024, base_batch_size=128, scaling=scaling
    )
    assert found == pytest.approx(expected)


def test_an_unknown_scaling_is_named():
    with pytest.raises(UserError, match=r"learning_rate_scaling .* not 'cube'"):
        optimizer.scaled_learning_rate(
            0.1, batch_size=1, base_batch_size=1, scaling="cube"
        )
