"""The loss of a batch against PyTorch and its definition."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from step_fixtures import BATCH, CLASSES, PLAIN, images_and_labels, make_loss, network

from jax_resnet.augment.geometry import resize
from jax_resnet.augment.mixup import make_mix
from jax_resnet.model import weights
from jax_resnet.training.loss import Teacher, draw_blocks

BLOCKS = 3
KEYS = jax.random.split(jax.random.key(3), BATCH)
TAUGHT = np.random.default_rng(1).standard_normal((BATCH, CLASSES), np.float32)
TEACHER = Teacher(lambda images: jnp.asarray(TAUGHT), weight=0.3, temperature=4.0)


def apply(params, images, **options):
    model = weights.merge(network()[0], params, network()[1].batch_stats)
    return np.array(model(images, train=True, **options))


def evaluate(preprocessing=PLAIN, **options):
    """The mean loss, the metrics, the batch that was prepared, and its logits."""
    loss, state = make_loss(preprocessing, **options), network()[1]
    images, labels = (array[:BATCH] for array in images_and_labels())
    batch = loss.prepare_batch(images, labels, KEYS, jnp.int32(0))
    mean, (metrics, _) = loss(state.params, state.batch_stats, batch)
    return mean, metrics, batch, apply(state.params, batch["images"])


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.parametrize(("smoothing", "teacher"), [(0.0, None), (0.1, TEACHER)])
def test_smoothing_and_distillation_are_pytorchs(smoothing, teacher):
    torch = pytest.importorskip("torch")
    mean, metrics, batch, logits = evaluate(label_smoothing=smoothing, teacher=teacher)
    labels, logits = np.array(batch["labels"]), torch.from_numpy(logits)
    expected = torch.nn.functional.cross_entropy(
        logits, torch.from_numpy(labels).long(), label_smoothing=smoothing
    )
    if teacher:
        divergence = torch.nn.functional.kl_div(
            torch.log_softmax(logits / 4, -1),
            torch.softmax(torch.from_numpy(TAUGHT) / 4, -1),
            reduction="batchmean",
        )
        expected = 0.7 * expected + 0.3 * 16 * divergence
    np.testing.assert_allclose(mean, expected.item(), rtol=1e-5)
    np.testing.assert_allclose(metrics.mean_loss, mean, rtol=1e-6)
    assert int(metrics.top1) == int((logits.argmax(-1).numpy() == labels).sum())


@pytest.mark.slow
def test_mixed_labels_against_their_distribution():
    mixed = replace(PLAIN, mix=make_mix(mixup=1.0))
    mean, metrics, batch, logits = evaluate(mixed, label_smoothing=0.2)
    own = np.asarray(batch["labels"])
    other = own[np.arange(BATCH) ^ 1]
    share = np.asarray(batch["share"])[:, None]
    hot = np.eye(CLASSES)
    targets = 0.8 * (share * hot[own] + (1 - share) * hot[other]) + 0.2 / CLASSES
    expected = -(np.asarray(jax.nn.log_softmax(logits)) * targets).sum(-1).mean()
    np.testing.assert_allclose(mean, expected, rtol=1e-5)
    larger = np.where(share[:, 0] >= 0.5, own, other)
    assert int(metrics.top1) == int((logits.argmax(-1) == larger).sum())


@pytest.mark.slow
def test_drop_rates_of_stochastic_depth():
    n = 10_000
    keys = jax.random.split(jax.random.key(0), n)
    drawn = np.asarray(jax.jit(draw_blocks, static_argnums=(1, 2))(keys, BLOCKS, 0.6))
    for block, rate in enumerate([0.2, 0.4, 0.6]):
        kept = drawn[:, block] > 0
        assert stats.binomtest(int(kept.sum()), n, 1 - rate).pvalue > 1e-3
        np.testing.assert_allclose(drawn[kept, block], 1 / (1 - rate), rtol=1e-6)
    assert np.abs(np.corrcoef(drawn.T) - np.eye(BLOCKS)).max() < 0.04


@pytest.mark.slow
def test_stochastic_depth_weighs_blocks():
    mean, _, batch, logits = evaluate(stochastic_depth=0.5)
    drawn = draw_blocks(batch["keys"], BLOCKS, 0.5)
    dropped = apply(network()[1].params, batch["images"], block_weights=drawn)
    log_probabilities = np.asarray(jax.nn.log_softmax(dropped))
    expected = -log_probabilities[np.arange(BATCH), np.asarray(batch["labels"])].mean()
    np.testing.assert_allclose(mean, expected, rtol=1e-5)
    assert np.abs(dropped - logits).max() > 0.01


@pytest.mark.slow
def test_images_are_resized_after_all_else():
    mixed = replace(PLAIN, mix=make_mix(mixup=0.2, cutmix=1.0))
    images, labels = (array[:BATCH] for array in images_and_labels())
    full, small = (
        make_loss(replace(mixed, image_size=size)).prepare_batch(
            images, labels, KEYS, jnp.int32(0)
        )
        for size in (None, 4)
    )
    full["images"] = resize(full["images"], 4)
    for name, value in full.items():
        np.testing.assert_array_equal(small[name], value)
