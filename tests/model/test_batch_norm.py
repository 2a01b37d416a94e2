"""BatchNorm in training, against Flax's with automatic differentiation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jax_resnet.distributed.mesh import DeviceMesh, split_along
from jax_resnet.model.batch_norm import BatchNorm, normalize

SHAPE = (8, 6, 5, 4)
CASES = [("float32", True), ("bfloat16", False)]


def make_layer(kind, dtype, axis_name=None):
    layer = kind(
        SHAPE[-1],
        momentum=0.9,
        dtype=jnp.dtype(dtype),
        axis_name=axis_name,
        rngs=nnx.Rngs(0),
    )
    rng = np.random.default_rng(1)
    for variable in (layer.scale, layer.bias, layer.mean):
        # Flax rounds them to its dtype, so take numbers that this leaves alone.
        rounded = jnp.asarray(rng.standard_normal(SHAPE[-1]), jnp.bfloat16)
        variable[...] = rounded.astype(jnp.float32)
    return layer


def apply(layer, x, rectify, train):
    if isinstance(layer, BatchNorm):
        return layer(x, train=train, rectify=rectify)
    with jax.numpy_dtype_promotion("standard"):  # Flax mixes bfloat16 and float32
        y = layer(x, use_running_average=not train)
    return nnx.relu(y) if rectify else y


def random_inputs(dtype):
    rng = np.random.default_rng(0)
    x, weights = (rng.standard_normal(SHAPE, np.float32) for _ in range(2))
    return jnp.asarray(3 * x + 2, dtype), jnp.asarray(weights, dtype)


def train(kind, dtype, rectify, devices):
    """A layer's output, all its gradients, and its running statistics."""
    axis_name = devices.axis_name
    graphdef, *parts = nnx.split(
        make_layer(kind, dtype, axis_name), nnx.Param, nnx.BatchStat
    )
    # Arrays, because variables cannot be changed in another trace than their own.
    params, batch_stats = map(nnx.to_pure_dict, parts)

    def loss(params, x, weights):
        layer = nnx.merge(graphdef, params, batch_stats)
        y = apply(layer, x, rectify, train=True)
        statistics = {"mean": layer.mean[...], "var": layer.var[...]}
        return (y * weights).astype(jnp.float32).sum(), (y, statistics)

    def gradients(x, weights):
        grad = jax.grad(loss, argnums=(0, 1), has_aux=True)
        (of_params, of_x), (y, statistics) = grad(params, x, weights)
        if axis_name is not None:
            of_params = jax.lax.psum(of_params, axis_name)
            y, of_x = jax.lax.all_gather((y, of_x), axis_name, tiled=True)
        return of_params | statistics | {"x": of_x, "y": y}

    parallel = devices.parallel(gradients, [split_along(0)] * 2)
    return jax.jit(parallel)(*random_inputs(dtype))


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize(("dtype", "rectify"), CASES)
def test_training_is_that_of_flax(dtype, rectify, count):
    devices = jax.devices()
    found = train(BatchNorm, dtype, rectify, DeviceMesh(tuple(devices[:count])))
    expected = train(nnx.BatchNorm, dtype, rectify, DeviceMesh((devices[0],)))
    tolerance = {"float32": 1e-5, "bfloat16": 2e-2}[dtype]
    for name, leaf in expected.items():
        assert found[name].dtype == leaf.dtype, name
        ours, theirs = (np.asarray(a, np.float32) for a in (found[name], leaf))
        atol = tolerance * np.abs(theirs).max()
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=atol, err_msg=name)


@pytest.mark.parametrize(("dtype", "rectify"), CASES)
def test_evaluation_is_that_of_flax(dtype, rectify):
    x, _ = random_inputs(dtype)
    found, expected = (
        apply(make_layer(kind, dtype), x, rectify, train=False)
        for kind in (BatchNorm, nnx.BatchNorm)
    )
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


def test_the_variance_of_equal_numbers_is_not_negative():
    x, ones = jnp.full(SHAPE, 1000.1), jnp.ones(SHAPE[-1])
    (y, _, var), gradient = jax.vjp(
        lambda x: normalize(x, ones, ones, 1e-5, None, False), x
    )
    assert (var >= 0).all()
    assert np.isfinite(y).all()
    assert np.isfinite(gradient((jnp.ones_like(y), ones, ones))[0]).all()


def test_one_pass_has_both_sums_but_on_a_cpu():
    ones = jnp.ones(SHAPE[-1])

    @jax.jit
    def forward(x):
        return normalize(x, ones, ones, 1e-5, None, False)

    for platform, reductions in (("cpu", 2), ("cuda", 1)):
        lowered = forward.trace(jnp.ones(SHAPE)).lower(lowering_platforms=(platform,))
        assert lowered.as_text().count("stablehlo.reduce(") == reductions
