import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_resnet.model import resnet, weights
from jax_resnet.runtime.errors import UserError


def arrays(seed=0, **settings):
    return weights.split(resnet.initialize(jax.random.key(seed), **settings))[1:]


@pytest.mark.parametrize(
    ("depth", "shortcut", "count"),
    [
        (20, "projection", 278_324),
        pytest.param(56, "projection", 861_620, marks=pytest.mark.slow),
        pytest.param(56, "pad", 858_868, marks=pytest.mark.slow),
    ],
)
def test_parameter_count(depth, shortcut, count):
    params, _ = arrays(depth=depth, shortcut=shortcut)
    assert weights.parameter_count(params) == count


@pytest.mark.slow
def test_initialisation():
    params, batch_stats = arrays(depth=8, width=2)
    assert params["stem.conv.kernel"].shape == (3, 3, 3, 32)
    assert params["head.kernel"].shape == (128, 100)
    kernel = params["blocks.2.conv2.conv.kernel"]
    # 147,456 draws: the standard error of a standard deviation is 0.2 %.
    np.testing.assert_allclose(np.std(kernel), np.sqrt(2 / (9 * 128)), rtol=0.01)
    assert abs(np.mean(kernel)) < 0.001
    assert all((a == 1).all() for n, a in params.items() if n.endswith("norm.scale"))
    assert all((a == 0).all() for n, a in params.items() if n.endswith("norm.bias"))
    assert np.abs(params["head.kernel"]).max() <= 1 / np.sqrt(128)
    assert all((a == 0).all() for n, a in batch_stats.items() if n.endswith(".mean"))

    again, _ = arrays(depth=8, width=2)
    other, _ = arrays(seed=1, depth=8, width=2)
    assert (again["head.kernel"] == params["head.kernel"]).all()
    assert (other["head.kernel"] != params["head.kernel"]).any()
    zero, _ = arrays(depth=8, zero_init_residual=True)
    assert (zero["blocks.1.conv2.norm.scale"] == 0).all()
    assert (zero["blocks.1.conv1.norm.scale"] == 1).all()


@pytest.mark.parametrize(
    ("dtype", "shortcut"), [("float32", "pad"), ("bfloat16", "projection")]
)
def test_dtypes_and_shapes(dtype, shortcut):
    network = resnet.initialize(
        jax.random.key(0), depth=8, dtype=dtype, shortcut=shortcut, in_channels=1
    )
    images = jnp.ones((2, 28, 28, 1))
    features = jax.eval_shape(network.features, images)
    assert (features.shape, features.dtype) == ((2, 7, 7, 64), dtype)
    logits = jax.eval_shape(network, images)
    assert (logits.shape, logits.dtype) == ((2, 100), jnp.float32)
    leaves = jax.tree.leaves(weights.split(network)[1:])
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype("float32")}


@pytest.mark.parametrize("depth", [21, 2])
def test_bad_depths(depth):
    with pytest.raises(UserError, match=rf"6n\+2.*not {depth}"):
        resnet.initialize(jax.random.key(0), depth=depth)


@pytest.mark.slow
def test_the_output_of_a_block_is_computed_once():
    depth = 14
    network = resnet.initialize(jax.random.key(0), depth=depth, num_classes=5)
    graphdef, params, batch_stats = weights.split(network)

    def loss(params, images):
        logits = weights.merge(graphdef, params, batch_stats)(images, train=True)
        return jnp.sum(logits**2)

    images = jnp.zeros((2, 8, 8, 3))
    compiled = jax.jit(jax.grad(loss)).lower(params, images).compile().as_text()
    relus = re.findall(r"f32\[2,\d+,\d+,\d+\]\S* maximum\(", compiled)
    assert len(relus) == depth - 1
