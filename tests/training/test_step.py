"""The steps of training and evaluation, and the metrics that they return."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from step_fixtures import (
    BATCH,
    CLASSES,
    PLAIN,
    RATE,
    SGD,
    N,
    images_and_labels,
    make_loss,
    network,
    on_batch,
    scale,
)

from jax_resnet.distributed.mesh import REPLICATED, DeviceMesh
from jax_resnet.model import weights
from jax_resnet.training.ema import Ema
from jax_resnet.training.input_pipeline import BatchSizes, epoch_order
from jax_resnet.training.metrics import RunningMetrics, batch_metrics
from jax_resnet.training.multi_step import MultiStep, device_loop
from jax_resnet.training.sam import Sam
from jax_resnet.training.step import StepOptions, make_eval_step, make_train_step

ONE = DeviceMesh((jax.devices()[0],))
EMA, ASAM = Ema(0.5), Sam(0.5, adaptive=True)


def noisy(keys, images, epoch):
    noise = jax.vmap(lambda key: jax.random.normal(key, images.shape[1:]))(keys)
    return scale(images) + 0.1 * noise


LOSS = make_loss(dataclasses.replace(PLAIN, augment=noisy))


def on_first_batch(options):
    step = on_batch(make_train_step(LOSS, SGD, options))
    images, labels = (array[:BATCH] for array in images_and_labels())
    return lambda state, key: jax.device_get(step(state, images, labels, key))


@pytest.fixture(scope="module")
def plain():
    return on_first_batch(StepOptions())


def assert_same(found, expected, tolerance=0.0):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.slow
def test_steps_learn_and_update_statistics(plain):
    before = state = network()[1]
    losses = []
    for _ in range(16):
        state, metrics = plain(state, jax.random.key(0))
        losses.append(float(metrics.loss))
    assert losses[-1] < losses[0] / 2
    for name, value in before.batch_stats.items():
        assert (state.batch_stats[name] != value).any()
    assert int(metrics.count) == BATCH and int(metrics.bad_step) == -1
    assert_same(state.average, before.average)


@pytest.mark.slow
def test_the_first_step_that_is_not_finite_is_named(plain):
    state, key = network()[1], jax.random.key(0)
    params = state.params | {"head.bias": np.full(CLASSES, np.nan, np.float32)}
    state, metrics = plain(dataclasses.replace(state, params=params), key)
    assert int(metrics.bad_step) == 1
    metrics, more = jax.device_put((metrics, plain(state, key)[1]))
    assert int(metrics.plus_step(more, jnp.int32(2)).bad_step) == 1


@pytest.mark.slow
def test_sam_takes_its_gradients_uphill_and_the_average_follows(plain):
    before, key = network()[1], jax.random.key(8)

    def gradient(params):
        moved, metrics = plain(dataclasses.replace(before, params=params), key)
        difference = jax.tree.map(lambda a, b: (a - b) / RATE, params, moved.params)
        return difference, moved, metrics

    below, moved, expected = gradient(before.params)
    above, *_ = gradient(ASAM.ascend(before.params, below))
    found, metrics = on_first_batch(StepOptions(sam=ASAM, ema=EMA))(before, key)
    # The loss and the statistics are those at the weights, not uphill.
    np.testing.assert_allclose(metrics.loss, expected.loss, rtol=1e-5)
    average = EMA.update(before.average, found.params, before.step).params
    for name, value in before.params.items():
        np.testing.assert_allclose(
            found.params[name], value - RATE * above[name], rtol=1e-4, atol=1e-5
        )
        np.testing.assert_allclose(found.average.params[name], average[name], atol=1e-6)
    for name, value in moved.batch_stats.items():
        np.testing.assert_allclose(found.batch_stats[name], value, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_results_of_a_loop_on_the_device_do_not_depend_on_the_calls(plain):
    step = MultiStep(make_train_step(LOSS, SGD), ONE, [REPLICATED] * 4, device_loop)
    images, labels = images_and_labels()
    order, key = jnp.arange(N, dtype=jnp.int32).reshape(5, 1, BATCH), jax.random.key(2)
    found = []
    for counts in ([1], [5], [2, 1, 2]):
        carry = jax.tree.map(jnp.copy, (network()[1], RunningMetrics.zeros()))
        for count in counts:
            carry = step(carry, count, images, labels, order, key)
        found.append(jax.device_get(carry))
    assert_same(found[1], found[2])
    assert int(found[1][0].step) == 5
    assert_same(found[0], plain(network()[1], key), 1e-3)


@pytest.mark.slow
def test_evaluation_is_exact_where_batches_do_not_divide_the_images():
    graphdef, state = network()
    images, labels = images_and_labels()
    step = MultiStep(
        make_eval_step(make_loss(), batch_size=7), ONE, [REPLICATED] * 3, None
    )
    done, metrics = step(
        jax.tree.map(jnp.asarray, (np.int32(0), RunningMetrics.zeros())),
        6,
        jnp.pad(images, ((0, 2), (0, 0), (0, 0), (0, 0))),
        jnp.pad(labels, (0, 2), constant_values=-1),
        state.weights,
    )
    model = weights.merge(graphdef, state.params, state.batch_stats)
    logits = np.asarray(jax.jit(model.__call__)(scale(images)))
    loss, top1, top5 = reference_metrics(logits, np.asarray(labels))
    assert (int(metrics.top1), int(metrics.top5)) == (top1, top5)
    assert (int(metrics.count), int(done)) == (N, 6)
    np.testing.assert_allclose(metrics.loss, loss, rtol=1e-5)


@pytest.mark.parametrize("parts", [1, 3])
def test_an_order_is_a_cut_permutation_of_its_epoch(parts):
    sizes, key = BatchSizes(N, N, 12, 12, accumulation=parts), jax.random.key(0)
    orders = [np.asarray(epoch_order(sizes, key, jnp.int32(e))) for e in range(3)]
    for epoch, found in enumerate(orders):
        assert found.shape == (3, parts, 12 // parts)
        expected = jax.random.permutation(jax.random.fold_in(key, epoch), N)[:36]
        np.testing.assert_array_equal(found.ravel(), expected)
    for a, b in itertools.combinations(orders, 2):
        assert (a != b).any()


def reference_metrics(logits, labels):
    shifted = logits - logits.max(-1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    ranks = np.argsort(-logits, axis=-1, kind="stable")
    loss = -log_probabilities[np.arange(len(labels)), labels].sum()
    hits = ranks == labels[:, None]
    return loss, hits[:, :1].sum(), hits[:, :5].sum()


@pytest.mark.slow
def test_metrics_against_sorting():
    rng = np.random.default_rng(3)
    # Few distinct values, so that ties are common.
    logits = rng.integers(0, 6, (200, 12)).astype(np.float32)
    labels = rng.integers(0, 12, 200, np.int32)
    metrics = batch_metrics(jnp.asarray(logits), jnp.asarray(labels))[1]
    loss, top1, top5 = reference_metrics(logits, labels)
    np.testing.assert_allclose(metrics.loss, loss, rtol=1e-5)
    assert (int(metrics.top1), int(metrics.top5)) == (top1, top5)
    assert (metrics.mean_loss, metrics.accuracy(5)) == (metrics.loss / 200, top5 / 200)


@pytest.mark.slow
def test_padding_and_broken_logits_count_for_nothing():
    logits = jnp.zeros((3, 12)).at[0, 4].set(9.0).at[1].set(jnp.nan)
    metrics = batch_metrics(logits, jnp.array([4, 4, -1]))[1]
    assert (int(metrics.top1), int(metrics.top5), int(metrics.count)) == (1, 1, 2)
    assert np.isnan(metrics.loss)
