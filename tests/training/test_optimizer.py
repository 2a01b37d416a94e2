import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from step_fixtures import on_batch

from jax_resnet.model import resnet
from jax_resnet.runtime.errors import UserError
from jax_resnet.training import optimizer
from jax_resnet.training.loss import Loss, Preprocessing
from jax_resnet.training.state import create_train_state
from jax_resnet.training.step import make_train_step


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


def test_other_decays_follow_the_warmup():
    steps = jnp.arange(110)
    linear = optimizer.make_schedule("linear", 0.1, 110, warmup_steps=10)(steps)
    np.testing.assert_allclose(linear[10:], 0.1 * (1 - np.arange(100) / 100), atol=1e-8)
    step = np.asarray(optimizer.make_schedule("step", 0.1, 110, warmup_steps=10)(steps))
    for first, last, rate in ((10, 40, 0.1), (40, 70, 0.02), (70, 90, 4e-3)):
        np.testing.assert_allclose(step[first + 1 : last], rate, rtol=1e-5)
    np.testing.assert_allclose(step[91:], 8e-4, rtol=1e-5)
    constant = optimizer.make_schedule("constant", 0.1, 110, warmup_steps=10)(steps)
    np.testing.assert_allclose(constant[10:], 0.1)
    for rates in (linear, step, constant):
        np.testing.assert_allclose(rates[:10], np.linspace(0, 0.1, 11)[:10], atol=1e-8)


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


@pytest.fixture
def optax_promotes():
    """Optax's Adam and Muon mix dtypes that strict promotion refuses."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.mark.torch
@pytest.mark.usefixtures("optax_promotes")
def test_adamw_is_pytorchs():
    torch = pytest.importorskip("torch")
    ours = optimizer.make_optimizer(
        "adamw", optimizer.make_schedule("constant", 0.01, 9), weight_decay=0.1
    )
    rng = np.random.default_rng(0)
    start = rng.standard_normal((3, 4)).astype(np.float32)
    theirs = torch.nn.Parameter(torch.from_numpy(start.copy()))
    adamw = torch.optim.AdamW([theirs], 0.01, weight_decay=0.1)
    params = {"head.kernel": jnp.asarray(start)}
    opt_state = ours.init(params)
    for _ in range(4):
        gradient = rng.standard_normal((3, 4)).astype(np.float32)
        updates, opt_state = ours.update(
            {"head.kernel": jnp.asarray(gradient)}, opt_state, params
        )
        params = optax.apply_updates(params, updates)
        theirs.grad = torch.from_numpy(gradient)
        adamw.step()
    found = params["head.kernel"]
    np.testing.assert_allclose(found, theirs.detach().numpy(), atol=1e-5)


def orthogonalised(matrix):
    """The quintic Newton-Schulz iteration of Jordan et al. 2024."""
    x = matrix / (np.linalg.norm(matrix) + 1e-8)
    x, is_tall = (x.T, True) if x.shape[0] > x.shape[1] else (x, False)
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x.T if is_tall else x


@pytest.mark.usefixtures("optax_promotes")
def test_muon_turns_each_kernel_as_a_matrix_of_its_filters():
    rate, decay = 0.05, 0.1
    muon = optimizer.make_optimizer(
        "muon",
        optimizer.make_schedule("constant", rate, 9),
        momentum=0.8,
        weight_decay=decay,
        weight_decay_on="kernels",
        adam_ratio=0.1,
    )
    rng = np.random.default_rng(0)
    shapes = {"a.conv.kernel": (3, 3, 4, 6), "a.norm.scale": (6,), "head.bias": (5,)}

    def draw():
        return {n: rng.standard_normal(s, np.float32) for n, s in shapes.items()}

    start = draw()
    params, opt_state = jax.tree.map(jnp.asarray, start), None
    opt_state = muon.init(params)
    kernel, momentum = start["a.conv.kernel"].astype(np.float64).reshape(36, 6), 0.0
    for step in range(3):
        gradients = draw()
        updates, opt_state = muon.update(
            jax.tree.map(jnp.asarray, gradients), opt_state, params
        )
        params = optax.apply_updates(params, updates)
        gradient = gradients["a.conv.kernel"].astype(np.float64).reshape(36, 6)
        momentum = 0.8 * momentum + 0.2 * gradient
        corrected = momentum / (1 - 0.8 ** (step + 1))
        # Of the width: max(1, fan out / fan in) ** 0.5 is 1 here.
        kernel = kernel - rate * (orthogonalised(corrected) + decay * kernel)
    found = np.asarray(params["a.conv.kernel"]).reshape(36, 6)
    np.testing.assert_allclose(found, kernel, atol=2e-4)
    # AdamW moves by its learning rate in the first step, whatever the gradient.
    first, _ = muon.update(jax.tree.map(jnp.asarray, start), muon.init(params), params)
    np.testing.assert_allclose(np.abs(first["a.norm.scale"]), 0.1 * rate, rtol=1e-3)


@pytest.mark.usefixtures("optax_promotes")
@pytest.mark.parametrize("name", ["adamw", "muon"])
@pytest.mark.parametrize("decay_on", ["all", "kernels"])
def test_decoupled_decay_without_gradients(name, decay_on):
    updates = optimizer.make_optimizer(
        name,
        optimizer.make_schedule("constant", 0.1, 9),
        weight_decay=0.2,
        weight_decay_on=decay_on,
    )
    shapes = {
        "a.conv.kernel": (3, 3, 2, 4),
        "a.norm.scale": (4,),
        "head.kernel": (4, 5),
    }
    params = {name: jnp.ones(shape) for name, shape in shapes.items()}
    still = jax.tree.map(jnp.zeros_like, params)
    found, _ = updates.update(still, updates.init(params), params)
    for field, update in found.items():
        decayed = decay_on == "all" or field.endswith("kernel")
        np.testing.assert_allclose(update, -0.02 if decayed else 0, atol=1e-7)


@pytest.mark.usefixtures("optax_promotes")
@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_each_optimizer_trains_the_network(name):
    updates = optimizer.make_optimizer(
        name, optimizer.make_schedule("constant", 0.01, 9), nesterov=True
    )
    network = resnet.initialize(jax.random.key(0), depth=8, num_classes=5)
    graphdef, train_state = create_train_state(network, updates)

    def scale(images):
        return images.astype(jnp.float32) / 128

    loss = Loss(graphdef, Preprocessing(lambda _, x, epoch: scale(x), scale))
    step = on_batch(make_train_step(loss, updates))
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.integers(0, 256, (8, 8, 8, 3), np.uint8))
    labels = jnp.asarray(rng.integers(0, 5, 8, np.int32))
    losses = []
    for _ in range(8):
        train_state, metrics = step(train_state, images, labels, jax.random.key(1))
        losses.append(float(metrics.loss))
    assert losses[-1] < losses[0] / 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"adam_ratio": -1.0}, "adam_ratio"),
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


def test_unknown_names():
    schedule = optimizer.make_schedule("cosine", 0.1, 3)
    with pytest.raises(UserError, match=r"optimizer.name must be .* not 'adam'"):
        optimizer.make_optimizer("adam", schedule)
    with pytest.raises(UserError, match=r"optimizer.schedule must be .* not 'cos'"):
        optimizer.make_schedule("cos", 0.1, 3)


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


@pytest.mark.usefixtures("optax_promotes")
@pytest.mark.parametrize("name", ["sgd", "adamw", "muon"])
def test_all_updates_read_the_rate_from_one_array(name):
    schedule = optimizer.make_schedule("cosine", 0.1, 9)
    chosen = optimizer.make_optimizer(name, schedule)
    shapes = {"a.conv.kernel": (3, 3, 4, 6), "b.conv.kernel": (3, 3, 4, 6), "c": (5,)}
    params = {name: jnp.ones(shape) for name, shape in shapes.items()}
    lowered = jax.jit(chosen.update).lower(params, chosen.init(params), params)
    barriers = re.findall(r"optimization_barrier \S+ : (\S+)", lowered.as_text())
    assert set(barriers) == {"tensor<2xf32>"}
