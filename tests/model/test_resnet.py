import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_resnet.model import resnet, weights
from jax_resnet.runtime.errors import UserError

# Of option B; He et al. 2015, table 6, gives the option A counts in millions.
COUNTS = {20: 278_324, 32: 472_756, 56: 861_620, 110: 1_736_564}


def arrays(**settings):
    _, params, batch_stats = weights.split(
        resnet.initialize(jax.random.key(0), **settings)
    )
    return params, batch_stats


@pytest.mark.parametrize("depth", COUNTS)
def test_parameter_count_of_projection_shortcuts(depth):
    assert weights.parameter_count(arrays(depth=depth)[0]) == COUNTS[depth]


def test_parameter_count_of_padded_shortcuts():
    params, _ = arrays(shortcut="pad")
    assert weights.parameter_count(params) == 858_868
    cifar10, _ = arrays(shortcut="pad", num_classes=10)
    assert (
        round(weights.parameter_count(cifar10) / 1e6, 2) == 0.85
    )  # He et al., table 6


def test_width_multiplies_filters():
    params, batch_stats = arrays(depth=8, width=2)
    assert params["stem.conv.kernel"].shape == (3, 3, 3, 32)
    assert params["head.kernel"].shape == (128, 100)
    assert batch_stats["blocks.2.conv2.norm.mean"].shape == (128,)


def test_initialisation():
    params, batch_stats = arrays(depth=56)
    kernel = params["blocks.26.conv2.conv.kernel"]
    assert kernel.shape == (3, 3, 64, 64)
    # 36,864 draws: the standard error of a standard deviation is 0.4 %.
    np.testing.assert_allclose(np.std(kernel), np.sqrt(2 / (9 * 64)), rtol=0.02)
    assert abs(np.mean(kernel)) < 0.002
    assert all((a == 1).all() for n, a in params.items() if n.endswith("norm.scale"))
    assert all((a == 0).all() for n, a in params.items() if n.endswith(".bias"))
    assert np.abs(params["head.kernel"]).max() <= 1 / 8
    assert all((a == 0).all() for n, a in batch_stats.items() if n.endswith(".mean"))


def test_seeds_differ_and_repeat():
    first, again = (arrays(depth=8)[0]["head.kernel"] for _ in range(2))
    other = weights.split(resnet.initialize(jax.random.key(1), depth=8))[1][
        "head.kernel"
    ]
    assert (first == again).all()
    assert (first != other).any()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("shortcut", ["projection", "pad"])
def test_dtypes_and_shapes(dtype, shortcut):
    network = resnet.initialize(
        jax.random.key(0), depth=8, dtype=dtype, shortcut=shortcut, in_channels=1
    )
    images = jnp.ones((2, 28, 28, 1))
    features = jax.eval_shape(network.features, images)
    assert (features.shape, features.dtype) == ((2, 7, 7, 64), dtype)
    logits = jax.eval_shape(network, images)
    assert (logits.shape, logits.dtype) == ((2, 100), jnp.float32)
    leaves = [*weights.split(network)[1].values(), *weights.split(network)[2].values()]
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype("float32")}


def test_running_statistics_keep_nine_tenths():
    network = resnet.initialize(jax.random.key(0), depth=8)
    images = jax.random.normal(jax.random.key(1), (4, 8, 8, 3))
    expected = network.stem.conv(images)
    network(images, train=True)
    statistics = network.stem.norm
    np.testing.assert_allclose(
        statistics.mean[...], 0.1 * expected.mean((0, 1, 2)), rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(
        statistics.var[...], 0.9 + 0.1 * expected.var((0, 1, 2)), rtol=1e-4
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"depth": 21}, "6n\\+2.*20 and 26"),
        ({"depth": 2}, "8 and 14"),
        ({"width": 0}, "model.width"),
        ({"shortcut": "none"}, "model.shortcut"),
        ({"dtype": "float16"}, "model.dtype"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(UserError, match=message):
        resnet.initialize(jax.random.key(0), **settings)


def test_bfloat16_is_about_float32():
    images = jnp.asarray(
        np.random.default_rng(0).standard_normal((16, 32, 32, 3), np.float32)
    )
    logits = []
    for dtype in ("float32", "bfloat16"):
        network = resnet.initialize(
            jax.random.key(0), depth=8, num_classes=10, dtype=dtype
        )
        parts = weights.split(network)
        compute = jax.jit(lambda p, b, x, g=parts[0]: weights.merge(g, p, b)(x))
        logits.append(np.asarray(compute(*parts[1:], images)))
    assert logits[1].dtype == np.float32
    np.testing.assert_allclose(*logits, atol=0.05)


def test_the_output_of_a_block_is_computed_once():
    depth = 20
    network = resnet.initialize(jax.random.key(0), depth=depth, num_classes=5)
    graphdef, params, batch_stats = weights.split(network)

    def loss(params, images):
        logits = weights.merge(graphdef, params, batch_stats)(images, train=True)
        return jnp.sum(logits**2)

    images = jnp.zeros((2, 8, 8, 3))
    compiled = jax.jit(jax.grad(loss)).lower(params, images).compile().as_text()
    relus = re.findall(r"f32\[2,\d+,\d+,\d+\]\S* maximum\(", compiled)
    assert len(relus) == depth - 1
