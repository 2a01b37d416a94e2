import math

import numpy as np
import pytest

from jax_resnet.evaluation.statistics import (
    bootstrap_intervals,
    mcnemar,
    mean_over_runs,
)


def test_the_bootstrap_of_an_accuracy_is_the_normal_interval():
    correct = (np.arange(2000) % 4 == 0).astype(float)
    values = np.stack([correct, 1 - correct], axis=1)
    (low, high), (other_low, other_high) = bootstrap_intervals(values)
    half = 1.96 * math.sqrt(0.25 * 0.75 / 2000)
    assert (low, high) == pytest.approx((0.25 - half, 0.25 + half), abs=2e-3)
    # All columns share the resamples.
    assert (1 - other_high, 1 - other_low) == pytest.approx((low, high))
    assert bootstrap_intervals(values) == bootstrap_intervals(values)
    assert bootstrap_intervals(values, seed=1) != bootstrap_intervals(values)


def test_the_interval_of_three_runs():
    mean, deviation, interval = mean_over_runs([0.74, 0.75, 0.76])
    assert (mean, deviation) == pytest.approx((0.75, 0.01))
    # Student's t with two degrees of freedom has its 97.5 % quantile at 4.3027.
    half = 4.3027 * 0.01 / math.sqrt(3)
    assert interval == pytest.approx((0.75 - half, 0.75 + half), abs=1e-6)
    assert mean_over_runs([0.75] * 3) == (0.75, 0.0, (0.75, 0.75))


@pytest.mark.parametrize(("b", "c"), [(0, 0), (12, 30)])
def test_mcnemar_is_the_test_of_a_fair_coin(b, c):
    first = np.array([True] * b + [False] * c + [True] * 40 + [False] * 20)
    second = np.array([False] * b + [True] * c + [True] * 40 + [False] * 20)
    found = mcnemar(first, second)
    assert (found["only_first"], found["only_second"]) == (b, c)
    n, k = b + c, min(b, c)
    tail = sum(math.comb(n, i) for i in range(k + 1)) / 2**n
    assert found["p_value"] == pytest.approx(min(1, 2 * tail), rel=1e-9)
