"""Random erasing and cutout against their definitions and distributions."""

import itertools
import math
from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest
from augment_fixtures import (
    DRAWS,
    LEAST_P,
    SETTINGS,
    assert_equally_likely,
    over_keys,
)
from scipy import stats

from jax_resnet.augment.erasing import cutout, draw_rectangle, random_erasing

REFERENCE = SETTINGS["random_erasing"]


def rectangles(shape, **changes):
    options = {"tries": 10, **REFERENCE, **changes}
    return over_keys(lambda key: draw_rectangle(key, shape, **options))


@pytest.mark.slow
def test_rectangles_are_those_of_a_loop():
    # In this flat shape few rectangles fit, so that the tries matter.
    height, width = 12, 40
    rng = np.random.default_rng(0)
    expected = []
    while len(expected) < DRAWS:
        target = rng.uniform(*REFERENCE["area"]) * height * width
        ratio = math.exp(rng.uniform(*np.log(REFERENCE["aspect"])))
        h, w = round(math.sqrt(target * ratio)), round(math.sqrt(target / ratio))
        if h < height and w < width:
            top, left = rng.integers(height - h + 1), rng.integers(width - w + 1)
            expected.append((top, left, h, w))
    found = rectangles((height, width), probability=1.0)
    for ours, theirs in zip(found.T, np.array(expected).T, strict=True):
        table = [np.bincount(side, minlength=width) for side in (ours, theirs)]
        common = np.sum(table, axis=0) >= 20
        assert stats.chi2_contingency(np.array(table)[:, common]).pvalue > LEAST_P
    assert (found[:, :2] + found[:, 2:] <= (height, width)).all()


@pytest.mark.slow
def test_erasing_sets_one_rectangle_to_zero_half_of_the_time():
    image = jnp.ones((32, 32, 3))
    found = over_keys(partial(random_erasing, image=image, **REFERENCE))
    drawn = rectangles((32, 32))
    erased = int((drawn[:, 2] > 0).sum())
    assert stats.binomtest(erased, DRAWS, 0.5).pvalue > LEAST_P
    for ours, (top, left, height, width) in zip(found, drawn, strict=True):
        expected = np.ones((32, 32, 3))
        expected[top : top + height, left : left + width] = 0
        np.testing.assert_array_equal(ours, expected)


@pytest.mark.slow
def test_erasing_gives_up_when_nothing_fits():
    assert not rectangles((8, 8), probability=1.0, area=(1.0, 1.0))[:, 2:].any()


def test_cutout():
    height, width, half = 10, 12, 4
    expected = {}
    for y, x in itertools.product(range(height), range(width)):
        hole = np.ones((height, width), bool)
        hole[max(y - half, 0) : y + half, max(x - half, 0) : x + half] = False
        expected[hole.tobytes()] = y * width + x
    image = jnp.ones((height, width, 3))
    found = over_keys(lambda key: cutout(key, image, size=2 * half))
    assert (found == found[..., :1]).all()
    assert len(expected) == height * width  # every centre leaves another hole
    codes = [expected[hole.tobytes()] for hole in found[..., 0].astype(bool)]
    assert_equally_likely(codes, range(height * width))
