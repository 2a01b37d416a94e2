"""Mixup and CutMix against their definitions, written out with NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from augment_fixtures import LEAST_P, keys, over_keys
from scipy import stats

from jax_resnet.augment.mixup import beta_quantile, make_mix, outside_box, partners
from jax_resnet.runtime.errors import UserError

PAIRS, HEIGHT, WIDTH = 600, 12, 10


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).standard_normal((2 * PAIRS, HEIGHT, WIDTH, 3), "f4")


def mixed(images, **settings):
    mix = jax.jit(make_mix(**settings))
    return jax.tree.map(np.asarray, mix(keys(len(images)), jnp.asarray(images)))


def others(batch):
    return batch[np.arange(len(batch)) ^ 1]


def weights_in(found, images):
    """Least squares of each image in terms of its own and the other's pixels."""
    own, other = (
        images.reshape(len(images), -1),
        others(images).reshape(len(images), -1),
    )
    difference = own - other
    step = found.reshape(len(images), -1) - other
    return (step * difference).sum(1) / (difference**2).sum(1)


def test_partners_are_the_others_of_pairs(images):
    np.testing.assert_array_equal(partners(jnp.asarray(images)), others(images))
    np.testing.assert_array_equal(partners(jnp.arange(6)), [1, 0, 3, 2, 5, 4])


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
def test_mixup(images, alpha):
    found, share = mixed(images, mixup=alpha)
    w = share[:, None, None, None]
    np.testing.assert_allclose(found, w * images + (1 - w) * others(images), atol=1e-5)
    np.testing.assert_allclose(share[::2], share[1::2])
    assert stats.kstest(share[::2], stats.beta(alpha, alpha).cdf).pvalue > LEAST_P


def box_by_the_paper(share, centre_row, centre_column):
    """The box of Yun et al. 2019, section 3.1, cut at the border."""
    side = np.sqrt(np.float32(1) - share)
    height, width = int(np.float32(HEIGHT) * side), int(np.float32(WIDTH) * side)
    rows = np.clip([centre_row - height // 2, centre_row + height // 2], 0, HEIGHT)
    columns = np.clip(
        [centre_column - width // 2, centre_column + width // 2], 0, WIDTH
    )
    outside = np.ones((HEIGHT, WIDTH), np.float32)
    outside[slice(*rows), slice(*columns)] = 0
    return outside


def test_boxes():
    rng = np.random.default_rng(1)
    boxes = jax.jit(lambda share, centre: outside_box(share, centre, (HEIGHT, WIDTH)))
    for share in [0.0, 0.999, *rng.uniform(0, 1, 60)]:
        share = np.float32(share)
        centre = rng.uniform(0, 1, 2).astype(np.float32)
        row, column = int(centre[0] * HEIGHT), int(centre[1] * WIDTH)
        np.testing.assert_array_equal(
            boxes(share, centre), box_by_the_paper(share, row, column)
        )
    assert (np.asarray(boxes(jnp.float32(1), jnp.float32([0.5, 0.5]))) == 1).all()


def test_cutmix(images):
    found, share = mixed(images, cutmix=1.0)
    own = (found == images).all(-1)
    assert (own | (found == others(images)).all(-1)).all()
    np.testing.assert_allclose(share, own.mean((1, 2)), atol=1e-6)
    np.testing.assert_array_equal(own[::2], own[1::2])
    # Each pixel that is not an image's own lies in one box.
    for one in ~own:
        rows, columns = one.any(1), one.any(0)
        np.testing.assert_array_equal(one, rows[:, None] & columns[None])
        for line in (rows, columns):
            assert (np.diff(np.flatnonzero(line)) == 1).all()


def test_probability_and_the_choice_between_both(images):
    found, share = mixed(images, mixup=1.0, cutmix=1.0, probability=0.6)
    whole = (found == images).all((1, 2, 3))
    np.testing.assert_array_equal(share[whole], 1)
    pairs = whole[::2]
    boxed = ((found == images) | (found == others(images))).all((1, 2, 3))[::2] & ~pairs
    blended = ~pairs & ~boxed
    # A box is empty, and so its pair whole, where 10 pixels * sqrt(1 - share) < 2.
    assert stats.binomtest(int(blended.sum()), PAIRS, 0.3).pvalue > LEAST_P
    assert stats.binomtest(int(boxed.sum()), PAIRS, 0.3 * 0.96).pvalue > LEAST_P
    np.testing.assert_allclose(
        weights_in(found, images)[::2][blended], share[::2][blended], atol=1e-4
    )


@pytest.mark.parametrize("alpha", [0.3, 1.0, 8.0])
def test_quantiles_are_those_of_beta(alpha):
    found = over_keys(lambda key: beta_quantile(jax.random.uniform(key), alpha))
    assert stats.kstest(found, stats.beta(alpha, alpha).cdf).pvalue > LEAST_P
    assert found.min() >= 0
    assert found.max() <= 1


def test_nothing_to_mix():
    assert make_mix() is None
    assert make_mix(mixup=1.0, probability=0.0) is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mixup": -1.0}, r"mix.mixup must be from 0 to 100, and is -1"),
        ({"cutmix": float("nan")}, r"mix.cutmix"),
        ({"cutmix": 1.0, "probability": 1.5}, r"mix.probability must be in \[0, 1\]"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(UserError, match=message):
        make_mix(**settings)
