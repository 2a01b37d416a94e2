"""Several devices compute what one does; the CPU stands in for them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from parallel_fixtures import BATCH, INFO, Steps, batch_of, dataset

from jax_resnet.augment.color import normalize
from jax_resnet.distributed.mesh import DeviceMesh
from jax_resnet.model import weights
from jax_resnet.runtime.errors import UserError

COUNT = 4
# A rate at which the rounding of float32 does not grow visibly.
SLOW = "optimizer.learning_rate=0.001"


@pytest.fixture(scope="module")
def one():
    return Steps(1, SLOW)


@pytest.fixture(scope="module")
def several():
    return Steps(COUNT, SLOW)


def assert_close(found, expected, tolerance):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def after(steps, count):
    """The state after some steps, and the metrics of the last."""
    state = steps.state
    for _ in range(count):
        state, metrics = steps(state)
    return state, metrics


@pytest.mark.slow
def test_steps_and_evaluation_are_those_of_one_device(one, several):
    expected, found = after(one, 12), after(several, 12)
    assert_close(found, expected, 1e-4)

    state = jax.tree.map(jnp.asarray, found[0])
    network = weights.merge(one.graphdef, state.params, state.batch_stats)
    images, labels = dataset().evaluation.images, dataset().evaluation.labels
    logits = network(normalize(jnp.asarray(images), INFO.mean, INFO.std))
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    metrics = several.evaluate(state)
    assert int(metrics.count) == len(labels)
    assert int(metrics.top1) == int((np.argmax(logits, -1) == labels).sum())
    np.testing.assert_allclose(metrics.loss, losses.sum(), rtol=1e-5)


@pytest.mark.slow
def test_statistics_of_each_device_alone():
    steps = Steps(COUNT, "mesh.batch_norm=device")
    found, metrics = steps(steps.state)
    images, labels, keys = batch_of(0)
    images = steps.augment(keys, images)

    def loss(params, images, labels):
        stats = jax.tree.map(jnp.asarray, steps.state.batch_stats)
        network = weights.merge(steps.graphdef, params, stats)
        logits = network(images, train=True)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return losses.mean(), weights.split(network)[2]

    size = BATCH // COUNT
    gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))
    parts = [
        gradient(steps.state.params, images[i : i + size], labels[i : i + size])
        for i in range(0, BATCH, size)
    ]
    (mean_loss, batch_stats), gradients = jax.tree.map(
        lambda *leaves: sum(leaves) / COUNT, *parts
    )
    np.testing.assert_allclose(metrics.loss / BATCH, mean_loss, atol=1e-5)
    assert_close(found.batch_stats, batch_stats, 1e-5)
    for name, value in steps.state.params.items():
        move = steps.learning_rate * (gradients[name] + steps.weight_decay * value)
        assert_close(found.params[name], value - move, 1e-4)


@pytest.mark.slow
def test_mixing_and_dropping_do_not_depend_on_the_devices():
    fields = ("mix.mixup=1.0", "mix.cutmix=1.0", "model.stochastic_depth=0.5")
    fields += ("train.accumulation=2", SLOW)
    results = [after(Steps(count, *fields), 1) for count in (1, COUNT)]
    assert_close(*results, 1e-4)


@pytest.mark.slow
def test_streamed_images_are_those_that_stay(several, monkeypatch):
    monkeypatch.setattr(
        "jax_resnet.training.input_pipeline.CHUNK_BYTES", 2 * BATCH * 8 * 8 * 3
    )
    # Over borders of epochs, and of chunks within them.
    streamed = Steps(COUNT, "data.placement=stream", SLOW)
    found, expected = after(streamed, 7), after(several, 7)
    assert_close(found, expected, 0)
    assert_close(streamed.evaluate(found[0]), several.evaluate(found[0]), 0)


def test_arrays_are_cut_or_copied():
    devices = DeviceMesh(tuple(jax.devices()))
    rows = np.arange(8)[::-1].repeat(2)
    (cut,) = devices.place_rows(rows, [np.arange(8, dtype=np.int32)])
    assert [shard.data.tolist() for shard in cut.addressable_shards] == [
        [r, r] for r in range(7, -1, -1)
    ]
    key, whole = devices.place((jax.random.key(3), jnp.arange(3)))
    assert len(whole.addressable_shards) == 8
    assert all(shard.data.shape == (3,) for shard in whole.addressable_shards)
    assert jax.random.key_data(key).tolist() == [0, 3]


def test_selection():
    assert DeviceMesh.select("cpu").count == 8
    assert DeviceMesh.select("cpu", 3).describe().startswith("3 x CPU")
    assert DeviceMesh.select("cpu", 1).axis_name is None
    with pytest.raises(UserError, match=r"mesh.devices is 9, and JAX finds 8"):
        DeviceMesh.select("cpu", 9)
