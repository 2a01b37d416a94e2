import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from step_fixtures import on_batch

from jax_resnet.distributed.mesh import REPLICATED, DeviceMesh
from jax_resnet.model import resnet, weights
from jax_resnet.training import optimizer
from jax_resnet.training.input_pipeline import BatchSizes, make_epoch_order
from jax_resnet.training.loss import Loss, Preprocessing
from jax_resnet.training.metrics import RunningMetrics, batch_metrics
from jax_resnet.training.multi_step import MultiStep, counted
from jax_resnet.training.state import create_train_state
from jax_resnet.training.step import StepOptions, make_eval_step, make_train_step

N, BATCH, CLASSES = 40, 8, 5
SHAPE = (8, 8, 3)


def noisy(keys, images, epoch):
    noise = jax.vmap(lambda key: jax.random.normal(key, SHAPE))(keys)
    return scale(images) + 0.1 * noise


def scale(images):
    return images.astype(jnp.float32) / 128 - 1


ONE = DeviceMesh((jax.devices()[0],))
SIZES = BatchSizes(N, N, BATCH, BATCH)


@pytest.fixture(scope="module")
def setup():
    sgd = optimizer.make_optimizer("sgd", optimizer.make_schedule("cosine", 0.05, 20))
    network = resnet.initialize(jax.random.key(0), depth=8, num_classes=CLASSES)
    graphdef, train_state = create_train_state(network, sgd)
    generator = np.random.default_rng(0)
    images = jnp.asarray(generator.integers(0, 256, (N, *SHAPE), np.uint8))
    labels = jnp.asarray(generator.integers(0, CLASSES, N, np.int32))
    train_step = make_train_step(Loss(graphdef, Preprocessing(noisy, scale)), sgd)
    return graphdef, train_state, images, labels, train_step


@pytest.fixture(scope="module")
def multi_steps(setup):
    return {
        loop: MultiStep(setup[-1], ONE, [REPLICATED] * 4, loop)
        for loop in (None, counted)
    }


def run(step, setup, calls):
    _, train_state, images, labels, _ = setup
    order = make_epoch_order(SIZES)
    carry = jax.tree.map(jnp.copy, (train_state, RunningMetrics.zeros()))
    for count in calls:
        epoch = carry[0].step // SIZES.steps_per_epoch
        rows = order(jax.random.key(1), epoch)
        carry = step(carry, count, images, labels, rows, jax.random.key(2))
    return jax.device_get(carry)


def assert_identical(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("loop", [None, counted])
def test_results_do_not_depend_on_the_calls(setup, multi_steps, loop):
    whole = run(multi_steps[loop], setup, [5, 5])
    assert int(whole[0].step) == 10
    assert_identical(whole, run(multi_steps[loop], setup, [1, 3, 1, 2, 2, 1]))


def test_loop_on_the_device_does_the_same_steps(setup, multi_steps):
    on_host, on_device = (
        run(multi_steps[loop], setup, [5]) for loop in (None, counted)
    )
    for x, y in zip(jax.tree.leaves(on_host), jax.tree.leaves(on_device), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-3)


def test_step_learns_and_updates_statistics(setup):
    _, train_state, images, labels, train_step = setup
    step, key = on_batch(train_step), jax.random.key(0)
    losses = []
    for _ in range(12):
        train_state, sums = step(train_state, images[:BATCH], labels[:BATCH], key)
        losses.append(float(sums.loss) / BATCH)
    assert losses[-1] < losses[0] / 2
    before = setup[1].batch_stats
    assert all((train_state.batch_stats[n] != before[n]).any() for n in before)
    assert int(sums.count) == BATCH


def test_epoch_order_is_a_cut_permutation_of_its_own():
    order = make_epoch_order(BatchSizes(N, N, 12, 12))
    orders = [order(jax.random.key(0), jnp.int32(e)) for e in range(3)]
    assert all(one.shape == (3, 1, 12) for one in orders)
    orders = [np.asarray(one).reshape(-1) for one in orders]
    for one in orders:
        assert len(one) == 36
        assert len(set(one.tolist())) == 36
        assert set(one.tolist()) <= set(range(N))
    for a, b in itertools.combinations(orders, 2):
        assert (a != b).any()
    parts = make_epoch_order(BatchSizes(N, N, 12, 12, accumulation=3))
    again = parts(jax.random.key(0), jnp.int32(1))
    assert again.shape == (3, 3, 4)
    np.testing.assert_array_equal(orders[1], np.asarray(again).reshape(-1))


def test_first_bad_step_is_named(setup, multi_steps):
    graphdef, train_state, images, labels, _ = setup
    poisoned = dataclasses.replace(
        train_state,
        step=jnp.int32(2),
        params={**train_state.params, "head.bias": jnp.full(CLASSES, jnp.nan)},
    )
    _, sums = run(multi_steps[None], (graphdef, poisoned, images, labels, None), [3])
    assert int(sums.bad_step) == 3
    _, sums = run(multi_steps[None], setup, [3])
    assert int(sums.bad_step) == -1


def reference_metrics(logits, labels):
    shifted = logits - logits.max(-1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    ranks = np.argsort(-logits, axis=-1, kind="stable")
    loss = -log_probabilities[np.arange(len(labels)), labels].sum()
    hits = ranks == labels[:, None]
    return loss, hits[:, :1].sum(), hits[:, :5].sum()


def test_sum_metrics_against_sorting():
    generator = np.random.default_rng(3)
    # Few distinct values, so that ties are common.
    logits = generator.integers(0, 6, (200, 12)).astype(np.float32)
    labels = generator.integers(0, 12, 200, np.int32)
    sums = batch_metrics(jnp.asarray(logits), jnp.asarray(labels))[1]
    loss, top1, top5 = reference_metrics(logits, labels)
    np.testing.assert_allclose(sums.loss, loss, rtol=1e-5)
    assert (int(sums.top1), int(sums.top5), int(sums.count)) == (top1, top5, 200)


def test_padding_and_broken_logits_count_for_nothing():
    logits = jnp.zeros((3, 12)).at[0, 4].set(9.0).at[1].set(jnp.nan)
    sums = batch_metrics(logits, jnp.array([4, 4, -1]))[1]
    assert (int(sums.top1), int(sums.top5), int(sums.count)) == (1, 1, 2)
    assert np.isnan(sums.loss)


@pytest.mark.parametrize("batch_size", [7, 40])
def test_evaluation_is_exact_for_any_batch_size(setup, batch_size):
    graphdef, train_state, images, labels, _ = setup
    step = make_eval_step(graphdef, scale, batch_size=batch_size)
    missing = -N % batch_size
    padded = (
        jnp.pad(images, ((0, missing), (0, 0), (0, 0), (0, 0))),
        jnp.pad(labels, (0, missing), constant_values=-1),
    )
    done, sums = MultiStep(step, ONE, [REPLICATED] * 3, None)(
        jax.tree.map(jnp.copy, (np.int32(0), RunningMetrics.zeros())),
        -(-N // batch_size),
        *padded,
        train_state.weights,
    )
    network = weights.merge(graphdef, train_state.params, train_state.batch_stats)
    loss, top1, top5 = reference_metrics(
        np.asarray(network(scale(images))), np.asarray(labels)
    )
    assert (int(sums.top1), int(sums.top5)) == (top1, top5)
    assert (int(sums.count), int(done)) == (N, -(-N // batch_size))
    np.testing.assert_allclose(sums.loss, loss, rtol=1e-5)


def test_a_step_that_is_not_finite_is_skipped(setup):
    graphdef, before, images, labels, _ = setup

    batch, marked = (images[:BATCH], labels[:BATCH]), jax.random.key(7)

    def poisoned(keys, images, epoch):
        first = jax.random.split(jax.random.fold_in(marked, 0), BATCH)
        bad = (jax.random.key_data(keys) == jax.random.key_data(first)).all()
        return jnp.where(bad, jnp.inf, scale(images))

    sgd = optimizer.make_optimizer("sgd", optimizer.make_schedule("cosine", 0.05, 20))
    loss = Loss(graphdef, Preprocessing(poisoned, scale))
    step = on_batch(make_train_step(loss, sgd, StepOptions(skip_nonfinite=True)))
    plain = Preprocessing(lambda _, images, epoch: scale(images), scale)
    stock = on_batch(make_train_step(Loss(graphdef, plain), sgd))

    after, sums = step(before, *batch, marked)
    assert int(after.step) == 1
    assert_identical(sums, RunningMetrics.zeros())
    assert_identical(dataclasses.replace(after, step=before.step), before)

    other = jax.random.key(8)
    for found, expected in zip(
        jax.tree.leaves(step(after, *batch, other)),
        jax.tree.leaves(stock(after, *batch, other)),
        strict=True,
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
