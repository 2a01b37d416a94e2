"""BatchNorm in training, against Flax's with automatic differentiation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import Mesh, PartitionSpec

from jax_resnet.distributed.mesh import AXIS
from jax_resnet.model.batch_norm import BatchNorm, _sums, normalize, relu

SHAPE = (8, 6, 5, 4)
TOLERANCE = {"float32": 1e-5, "bfloat16": 2e-2}
CASES = [(dtype, rectify) for dtype in TOLERANCE for rectify in (False, True)]


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
        # Flax rounds them to its dtype, so they are numbers that this leaves alone.
        rounded = jnp.asarray(rng.standard_normal(SHAPE[-1]), jnp.bfloat16)
        variable[...] = rounded.astype(jnp.float32)
    return made


def flax_layer(x, made, rectify, train=True):
    # Flax promotes bfloat16 and float32 where it is left to.
    with jax.numpy_dtype_promotion("standard"):
        y = nnx.BatchNorm.__call__(made, x, use_running_average=not train)
    return nnx.relu(y) if rectify else y


def our_layer(x, made, rectify, train=True):
    return made(x, train=train, rectify=rectify)


def drawn(dtype):
    rng = np.random.default_rng(0)
    x, weights = (rng.standard_normal(SHAPE, np.float32) for _ in range(2))
    return jnp.asarray(3 * x + 2, dtype), jnp.asarray(weights, dtype)


def computed(call, kind, dtype, rectify, devices=1):
    """A layer's output, all its gradients, and its running statistics."""
    axis_name = AXIS if devices > 1 else None
    graphdef, *parts = nnx.split(layer(kind, dtype, axis_name), nnx.Param, ...)
    # Arrays, for variables cannot be changed in another trace than their own.
    params, rest = ({k: v[...] for k, v in part.items()} for part in parts)

    def loss(params, x, rest, weights):
        made = nnx.merge(graphdef, params, rest)
        y = call(x, made, rectify)
        statistics = {"mean": made.mean[...], "var": made.var[...]}
        product = (y * weights).astype(jnp.float32)
        return product.sum(), {"y": y, **statistics}

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
    found, of_x = jax.jit(both)(params, rest, *drawn(dtype))
    return found | {"x": of_x}


def assert_alike(found, expected, dtype):
    assert found.keys() == expected.keys()
    for name, leaf in expected.items():
        assert found[name].dtype == leaf.dtype, name
        ours, theirs = (np.asarray(a, np.float32) for a in (found[name], leaf))
        scale = np.abs(theirs).max()
        np.testing.assert_allclose(
            ours / scale, theirs / scale, atol=TOLERANCE[dtype], err_msg=name
        )


@pytest.mark.parametrize("devices", [1, 4])
@pytest.mark.parametrize(("dtype", "rectify"), CASES)
def test_training_is_that_of_flax(dtype, rectify, devices):
    found = computed(our_layer, BatchNorm, dtype, rectify, devices)
    expected = computed(flax_layer, nnx.BatchNorm, dtype, rectify, devices)
    assert_alike(found, expected, dtype)


@pytest.mark.parametrize(("dtype", "rectify"), CASES)
def test_devices_together_are_one(dtype, rectify):
    found = computed(our_layer, BatchNorm, dtype, rectify, devices=8)
    assert_alike(found, computed(our_layer, BatchNorm, dtype, rectify), dtype)


@pytest.mark.parametrize("rectify", [False, True])
def test_training_by_its_definition(rectify):
    x, weights = (np.asarray(a, np.float64) for a in drawn("float32"))
    made = layer(BatchNorm)
    scale, bias, mean = (np.asarray(v[...]) for v in (made.scale, made.bias, made.mean))

    def normalised(x):
        by_batch = (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 1e-5)
        return np.maximum(by_batch * scale + bias, 0 if rectify else -np.inf)

    found = computed(our_layer, BatchNorm, "float32", rectify)
    np.testing.assert_allclose(found["y"], normalised(x), rtol=1e-5, atol=1e-5)
    kept = 0.9 * mean + 0.1 * x.mean((0, 1, 2))
    np.testing.assert_allclose(found["mean"], kept, rtol=1e-5)
    np.testing.assert_allclose(found["var"], 0.9 + 0.1 * x.var((0, 1, 2)), rtol=1e-5)
    step = 1e-6
    for place in ((0, 0, 0, 0), (3, 2, 1, 1), (7, 5, 4, 3)):
        moved = [x.copy(), x.copy()]
        moved[0][place] -= step
        moved[1][place] += step
        below, above = ((normalised(m) * weights).sum() for m in moved)
        slope = (above - below) / (2 * step)
        np.testing.assert_allclose(found["x"][place], slope, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("dtype", "rectify"), CASES)
def test_evaluation_is_flax_s(dtype, rectify):
    x, _ = drawn(dtype)
    found = our_layer(x, layer(BatchNorm, dtype), rectify, train=False)
    expected = flax_layer(x, layer(nnx.BatchNorm, dtype), rectify, train=False)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


def test_two_passes_are_flax_s():
    made = layer(BatchNorm), layer(nnx.BatchNorm)
    for each in made:
        each.use_fast_variance = False
    x, _ = drawn("float32")
    found, expected = our_layer(x, made[0], False), flax_layer(x, made[1], False)
    np.testing.assert_array_equal(found, expected)
    for name in ("mean", "var"):
        ours, theirs = (getattr(each, name)[...] for each in made)
        np.testing.assert_array_equal(ours, theirs)


def test_the_variance_of_equal_numbers_is_not_negative():
    x = jnp.full(SHAPE, 1000.1)
    ones = jnp.ones(SHAPE[-1])

    def result(x):
        return normalize(x, ones, ones, 1e-5, None, False)

    (y, _, var), gradient = jax.vjp(result, x)
    assert (var >= 0).all()
    assert np.isfinite(y).all()
    assert np.isfinite(gradient((jnp.ones_like(y), ones, ones))[0]).all()


def test_sums_are_together_but_on_a_cpu():
    a = jnp.ones(SHAPE)
    for platform, reductions in (("cpu", 2), ("cuda", 1)):
        lowered = jax.jit(_sums).trace(a, 2 * a).lower(lowering_platforms=(platform,))
        assert lowered.as_text().count("stablehlo.reduce(") == reductions


def test_relu_has_the_values_and_gradient_of_flax():
    x = jnp.asarray(np.random.default_rng(0).standard_normal(50), jnp.float32)
    x = x.at[:3].set(0.0)
    for each in (relu, jax.jit(relu)):
        np.testing.assert_array_equal(each(x), nnx.relu(x))
        (found, expected) = (jax.vjp(f, x)[1](x + 1)[0] for f in (each, nnx.relu))
        np.testing.assert_array_equal(found, expected)
