"""Mixup and CutMix against their definitions, written out with NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from augment_fixtures import LEAST_P, keys
from scipy import stats

from jax_resnet.augment.mixup import make_mix, outside_box, partners

PAIRS, HEIGHT, WIDTH = 600, 12, 10
IMAGES = np.random.default_rng(0).standard_normal((2 * PAIRS, HEIGHT, WIDTH, 3), "f4")
OTHERS = IMAGES[np.arange(2 * PAIRS) ^ 1]


def mix(**options):
    """The mixed images, and the weight of each image's own label."""
    function = jax.jit(make_mix(**options))
    return jax.tree.map(np.asarray, function(keys(2 * PAIRS), jnp.asarray(IMAGES)))


def test_partners_are_the_others_of_pairs():
    np.testing.assert_array_equal(partners(jnp.asarray(IMAGES)), OTHERS)
    np.testing.assert_array_equal(partners(jnp.arange(6)), [1, 0, 3, 2, 5, 4])


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [0.2, 3.0])
def test_mixup(alpha):
    found, share = mix(mixup=alpha)
    w = share[:, None, None, None]
    np.testing.assert_allclose(found, w * IMAGES + (1 - w) * OTHERS, atol=1e-5)
    np.testing.assert_array_equal(share[::2], share[1::2])
    assert stats.kstest(share[::2], stats.beta(alpha, alpha).cdf).pvalue > LEAST_P


def test_boxes_are_those_of_the_paper():
    # Yun et al. 2019, section 3.1; cut at the border.
    rng = np.random.default_rng(1)
    boxes = jax.jit(lambda share, centre: outside_box(share, centre, (HEIGHT, WIDTH)))
    for share in [0.0, 0.999, 1.0, *rng.uniform(0, 1, 40)]:
        share, centre = np.float32(share), rng.uniform(0, 1, 2).astype(np.float32)
        expected = np.ones((HEIGHT, WIDTH), np.float32)
        sides = []
        for limit, part in zip((HEIGHT, WIDTH), centre, strict=True):
            half = int(np.float32(limit) * np.sqrt(np.float32(1) - share)) // 2
            middle = int(part * limit)
            sides.append(slice(max(middle - half, 0), middle + half))
        expected[*sides] = 0
        np.testing.assert_array_equal(boxes(share, centre), expected)


@pytest.mark.slow
def test_cutmix():
    found, share = mix(cutmix=1.0)
    own = (found == IMAGES).all(-1)
    assert (own | (found == OTHERS).all(-1)).all()
    np.testing.assert_allclose(share, own.mean((1, 2)), atol=1e-6)
    np.testing.assert_array_equal(own[::2], own[1::2])


@pytest.mark.slow
def test_probability_and_the_choice_between_both():
    found, share = mix(mixup=1.0, cutmix=1.0, probability=0.6)
    whole = (found == IMAGES).all((1, 2, 3))
    np.testing.assert_array_equal(share[whole], 1)
    whole = whole[::2]
    boxed = ((found == IMAGES) | (found == OTHERS)).all((1, 2, 3))[::2] & ~whole
    blended = int((~whole & ~boxed).sum())
    # A box is empty, and so its pair whole, where 10 pixels * sqrt(1 - share) < 2.
    assert stats.binomtest(blended, PAIRS, 0.3).pvalue > LEAST_P
    assert stats.binomtest(int(boxed.sum()), PAIRS, 0.3 * 0.96).pvalue > LEAST_P


def test_nothing_to_mix():
    assert make_mix() is None
    assert make_mix(mixup=1.0, probability=0.0) is None
