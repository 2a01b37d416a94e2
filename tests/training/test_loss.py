"""The loss that is minimised, against PyTorch and against what it is made of."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jax_resnet.augment.mixup import make_mix
from jax_resnet.model import resnet, weights
from jax_resnet.runtime.errors import UserError
from jax_resnet.training.loss import Loss, Preprocessing, Teacher

BATCH, CLASSES, BLOCKS = 16, 5, 3
KEYS = jax.random.split(jax.random.key(3), BATCH)


def scaled(keys, images, epoch):
    return images.astype(jnp.float32) / 128 - 1


PLAIN = Preprocessing(scaled, lambda images: scaled(None, images, 0))


@pytest.fixture(scope="module")
def network():
    return weights.split(
        resnet.initialize(jax.random.key(0), depth=8, num_classes=CLASSES)
    )


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.integers(0, 256, (BATCH, 8, 8, 3), np.uint8))
    return images, jnp.asarray(rng.integers(0, CLASSES, BATCH, np.int32))


def logits_of(network, images, **options):
    return weights.merge(*network)(images, train=True, **options)


def gradients(loss, network, images_and_labels):
    batch = loss.prepare_batch(*images_and_labels, KEYS, jnp.int32(0))
    found, (metrics, _) = jax.grad(loss, has_aux=True)(*network[1:], batch)
    return found, metrics, batch


@pytest.mark.torch
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_label_smoothing_is_pytorchs(network, batch, smoothing):
    torch = pytest.importorskip("torch")
    loss = Loss(network[0], PLAIN, label_smoothing=smoothing)
    _, sums, seen = gradients(loss, network, batch)
    logits = np.array(logits_of(network, seen["images"]))
    expected = torch.nn.functional.cross_entropy(
        torch.from_numpy(logits),
        torch.from_numpy(np.array(batch[1])).long(),
        label_smoothing=smoothing,
        reduction="sum",
    )
    np.testing.assert_allclose(sums.loss, expected.item(), rtol=1e-5)
    assert int(sums.top1) == int((logits.argmax(-1) == np.asarray(batch[1])).sum())


def test_mixed_labels_against_their_distribution(network, batch):
    mixed = replace(PLAIN, mix=make_mix(mixup=1.0))
    found, sums, seen = gradients(
        Loss(network[0], mixed, label_smoothing=0.2), network, batch
    )
    share = np.asarray(seen["share"], np.float64)[:, None]
    hot = np.eye(CLASSES)[np.asarray(batch[1])]
    targets = share * hot + (1 - share) * hot[np.arange(BATCH) ^ 1]
    targets = 0.8 * targets + 0.2 / CLASSES

    def loss_fn(params):
        logits = logits_of((network[0], params, network[2]), seen["images"])
        return -(jax.nn.log_softmax(logits) * jnp.asarray(targets, jnp.float32)).sum()

    loss, expected = jax.value_and_grad(loss_fn)(network[1])
    np.testing.assert_allclose(sums.loss, loss, rtol=1e-5)
    for name, gradient in expected.items():
        np.testing.assert_allclose(
            found[name], gradient / BATCH, rtol=1e-4, atol=1e-5, err_msg=name
        )
    logits = np.asarray(logits_of(network, seen["images"]))
    own = np.asarray(batch[1])
    larger = np.where(share[:, 0] >= 0.5, own, own[np.arange(BATCH) ^ 1])
    assert int(sums.top1) == int((logits.argmax(-1) == larger).sum())


@pytest.mark.torch
def test_distillation_against_pytorchs_divergence(network, batch):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(1)
    taught = rng.standard_normal((BATCH, CLASSES)).astype(np.float32)
    teacher = Teacher(lambda images: jnp.asarray(taught), weight=0.3, temperature=4.0)
    _, plain, seen = gradients(Loss(network[0], PLAIN), network, batch)
    _, sums, _ = gradients(Loss(network[0], PLAIN, teacher=teacher), network, batch)
    logits = torch.from_numpy(np.array(logits_of(network, seen["images"])))
    divergence = torch.nn.functional.kl_div(
        torch.log_softmax(logits / 4, -1),
        torch.softmax(torch.from_numpy(taught) / 4, -1),
        reduction="sum",
    )
    expected = 0.7 * float(plain.loss) + 0.3 * 16 * divergence.item()
    np.testing.assert_allclose(sums.loss, expected, rtol=1e-5)


def test_a_block_without_weight_is_its_shortcut(network, batch):
    images = scaled(None, batch[0], 0)
    ones = jnp.ones((BATCH, BLOCKS))
    whole = logits_of(network, images)
    np.testing.assert_allclose(
        logits_of(network, images, block_weights=ones), whole, atol=1e-6
    )
    # A block whose branch ends in a scale and a bias of 0 adds nothing, too.
    silent = dict(network[1])
    for name in ("scale", "bias"):
        silent[f"blocks.1.conv2.norm.{name}"] *= 0
    expected = logits_of((network[0], silent, network[2]), images)
    without = ones.at[:, 1].set(0.0)
    np.testing.assert_allclose(
        logits_of(network, images, block_weights=without), expected, atol=1e-6
    )


def test_chances_of_stochastic_depth(network):
    loss = Loss(network[0], PLAIN, stochastic_depth=0.6)
    n = 10_000
    seen = {"keys": jax.random.split(jax.random.key(0), n)}
    draw = jax.jit(partial(loss._block_weights, blocks=BLOCKS))
    drawn = np.asarray(draw(seen))
    for block, chance in enumerate([0.2, 0.4, 0.6]):
        kept = drawn[:, block] > 0
        assert stats.binomtest(int(kept.sum()), n, 1 - chance).pvalue > 1e-3
        np.testing.assert_allclose(drawn[kept, block], 1 / (1 - chance), rtol=1e-6)
    assert np.abs(np.corrcoef(drawn.T) - np.eye(BLOCKS)).max() < 0.04


def test_stochastic_depth_takes_part(network, batch):
    plain, dropped = (
        gradients(Loss(network[0], PLAIN, stochastic_depth=depth), network, batch)
        for depth in (0.0, 0.5)
    )
    assert plain[1].loss != dropped[1].loss
    again = gradients(Loss(network[0], PLAIN, stochastic_depth=0.5), network, batch)
    assert dropped[1].loss == again[1].loss


def test_zero_initialised_blocks_begin_as_their_shortcuts(batch):
    begin = partial(resnet.initialize, jax.random.key(0), depth=8, num_classes=CLASSES)
    usual, zeroed = (
        weights.split(begin()),
        weights.split(begin(zero_init_residual=True)),
    )
    last = [f"blocks.{block}.conv2.norm.scale" for block in range(BLOCKS)]
    for name, value in zeroed[1].items():
        expected = usual[1][name] * (0 if name in last else 1)
        np.testing.assert_array_equal(value, expected, err_msg=name)
    images = scaled(None, batch[0], 0)
    np.testing.assert_allclose(
        logits_of(zeroed, images),
        logits_of(usual, images, block_weights=jnp.zeros((BATCH, BLOCKS))),
        atol=1e-5,
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"label_smoothing": 1.0}, r"train.label_smoothing must be in \[0, 1\)"),
        ({"stochastic_depth": -0.1}, r"model.stochastic_depth must be in \[0, 1\)"),
        ({"label_smoothing": float("nan")}, r"train.label_smoothing"),
    ],
)
def test_bad_settings(network, settings, message):
    with pytest.raises(UserError, match=message):
        Loss(network[0], PLAIN, **settings)


@pytest.mark.parametrize(
    ("weight", "temperature", "message"),
    [(1.5, 4.0, r"distill.weight"), (0.5, 0.0, r"distill.temperature .* is 0.0")],
)
def test_bad_teachers(weight, temperature, message):
    with pytest.raises(UserError, match=message):
        Teacher(lambda images: images, weight, temperature)
