import math

import numpy as np
import pytest

from jax_resnet.evaluation.statistics import bootstrap, mcnemar, over_seeds


def test_the_bootstrap_of_an_accuracy_is_the_normal_interval():
    right = (np.arange(10_000) % 4 == 0).astype(float)
    (interval,) = bootstrap(right[:, None])
    half = 1.96 * math.sqrt(0.25 * 0.75 / 10_000)
    assert interval.low == pytest.approx(0.25 - half, abs=5e-4)
    assert interval.high == pytest.approx(0.25 + half, abs=5e-4)


def test_the_bootstrap_covers_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(100):
        losses = rng.exponential(2.0, size=(200, 1))
        (interval,) = bootstrap(losses, seed=seed)
        covered += interval.low <= 2.0 <= interval.high
    assert 86 <= covered <= 100


def test_columns_share_the_resamples():
    values = np.random.default_rng(0).normal(size=(300, 1))
    one, other = bootstrap(np.concatenate([values, values], axis=1))
    assert one == other
    assert bootstrap(values) == bootstrap(values)
    assert bootstrap(values, seed=1) != bootstrap(values)


def test_three_seeds():
    mean, deviation, interval = over_seeds([0.74, 0.75, 0.76])
    assert (mean, deviation) == pytest.approx((0.75, 0.01))
    # Student's t with two degrees of freedom has its 97.5 % quantile at 4.3027.
    half = 4.3027 * 0.01 / math.sqrt(3)
    assert (interval.low, interval.high) == pytest.approx(
        (0.75 - half, 0.75 + half), abs=1e-6
    )


def test_one_seed_says_nothing_of_seeds():
    assert over_seeds([0.75]) == (0.75, 0.0, None)


@pytest.mark.parametrize(("b", "c"), [(0, 0), (5, 5), (1, 9), (12, 30), (300, 250)])
def test_mcnemar_is_a_fair_coins_test(b, c):
    first = np.array([True] * b + [False] * c + [True] * 40 + [False] * 20)
    second = np.array([False] * b + [True] * c + [True] * 40 + [False] * 20)
    found = mcnemar(first, second)
    assert (found.only_first, found.only_second) == (b, c)
    n, k = b + c, min(b, c)
    tail = sum(math.comb(n, i) for i in range(k + 1)) / 2**n
    assert found.p_value == pytest.approx(min(1, 2 * tail), rel=1e-9)
