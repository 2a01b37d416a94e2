"""BatchNorm in training, against Flax's with automatic differentiation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import Mesh, PartitionSpec

from jax_resnet.distributed.mesh import AXIS
from jax_resnet.model.batch_norm import BatchNorm, normalize, relu

SHAPE = (8, 6, 5, 4)
TOLERANCE = {"float32": 1e-5, "bfloat16": 2e-2}
CASES = [("float32", True), ("bfloat16", False)]


def layer(kind, dtype="float32", axis_name=None):
    made = kind(
        SHAPE[-1],
        momentum=0.9,
        epsilon=1e-5,
        dtype=jnp.dtype(dtype),
        axis_name=axis_name,
        rngs=nnx.Rngs(0),
    )
    rng = np.random.default_rng(1)
    for variable in (made.scale, made.bias, made.mean):
        # Flax rounds them to its dtype, so take numbers that this leaves alone.
        rounded = jnp.asarray(rng.standard_normal(SHAPE[-1]), jnp.bfloat16)
        variable[...] = rounded.astype(jnp.float32)
    return made


def our_layer(x, made, rectify, train=True):
    return made(x, train=train, rectify=rectify)


def flax_layer(x, made, rectify, train=True):
    # Flax mixes bfloat16 and float32.
    with jax.numpy_dtype_promotion("standard"):
        y = nnx.BatchNorm.__call__(made, x, use_running_average=not train)
    return nnx.relu(y) if rectify else y


def random_inputs(dtype):
    rng = np.random.default_rng(0)
    x, weights = (rng.standard_normal(SHAPE, np.float32) for _ in range(2))
    return jnp.asarray(3 * x + 2, dtype), jnp.asarray(weights, dtype)


def computed(call, kind, dtype, rectify, devices=1):
    """A layer's output, all its gradients, and its running statistics."""
    axis_name = AXIS if devices > 1 else None
    graphdef, *parts = nnx.split(layer(kind, dtype, axis_name), nnx.Param, ...)
    # Arrays, because variables cannot be changed in another trace than their own.
    params, rest = ({k: v[...] for k, v in part.items()} for part in parts)

    def loss(params, x, rest, weights):
        made = nnx.merge(graphdef, params, rest)
        y = call(x, made, rectify)
        statistics = {"mean": made.mean[...], "var": made.var[...]}
        return (y * weights).astype(jnp.float32).sum(), {"y": y, **statistics}

    def both(params, rest, x, weights):
        grad = jax.grad(loss, argnums=(0, 1), has_aux=True)
        (of_params, of_x), found = grad(params, x, rest, weights)
        if axis_name is not None:
            of_params = jax.lax.psum(of_params, axis_name)
        return found | of_params, of_x

    if devices > 1:
        part, whole = PartitionSpec(AXIS), PartitionSpec()
        out = dict.fromkeys(("mean", "var", "scale", "bias"), whole) | {"y": part}
        both = jax.shard_map(
            both,
            mesh=Mesh(np.array(jax.devices()[:devices]), (AXIS,)),
            in_specs=(whole, whole, part, part),
            out_specs=(out, part),
            check_vma=False,
        )
    found, of_x = jax.jit(both)(params, rest, *random_inputs(dtype))
    return found | {"x": of_x}


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 4])
@pytest.mark.parametrize(("dtype", "rectify"), CASES)
def test_training_is_that_of_flax(dtype, rectify, devices):
    found = computed(our_layer, BatchNorm, dtype, rectify, devices)
    expected = computed(flax_layer, nnx.BatchNorm, dtype, rectify)
    assert found.keys() == expected.keys()
    for name, leaf in expected.items():
        assert found[name].dtype == leaf.dtype, name
        ours, theirs = (np.asarray(a, np.float32) for a in (found[name], leaf))
        scale = np.abs(theirs).max()
        np.testing.assert_allclose(
            ours / scale, theirs / scale, atol=TOLERANCE[dtype], err_msg=name
        )


@pytest.mark.parametrize(("dtype", "rectify"), CASES)
def test_evaluation_is_flax_s(dtype, rectify):
    x, _ = random_inputs(dtype)
    found = our_layer(x, layer(BatchNorm, dtype), rectify, train=False)
    expected = flax_layer(x, layer(nnx.BatchNorm, dtype), rectify, train=False)
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


def test_relu_has_the_values_and_gradient_of_flax():
    x = jnp.linspace(-1, 1, 9)
    np.testing.assert_array_equal(relu(x), nnx.relu(x))
    found, expected = (jax.vjp(f, x)[1](x + 1)[0] for f in (relu, nnx.relu))
    np.testing.assert_array_equal(found, expected)
