"""Confidence intervals of metrics, over images and over runs, and a paired test."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from scipy import stats

RESAMPLES = 2000
LEVEL = 0.95

Interval = tuple[float, float]


def bootstrap_intervals(
    values: Float[np.ndarray, "n k"], *, seed: int = 0
) -> list[Interval]:
    """Returns percentile bootstrap intervals of the mean of each column.

    Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, section 13.3. The
    values are k for each of n images, at least two; all columns share the resamples.
    """
    low, high = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=RESAMPLES,
        batch=20,  # a batch fits into the caches
        confidence_level=LEVEL,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return list(zip(low.tolist(), high.tolist(), strict=True))


def mean_over_runs(values: Sequence[float]) -> tuple[float, float, Interval]:
    """Returns mean, sample standard deviation, and Student's interval of the mean."""
    mean, deviation = float(np.mean(values)), float(np.std(values, ddof=1))
    quantile = stats.t.ppf((1 + LEVEL) / 2, len(values) - 1)
    half = float(quantile * deviation / np.sqrt(len(values)))
    return mean, deviation, (mean - half, mean + half)


def mcnemar(
    first: Bool[np.ndarray, " n"], second: Bool[np.ndarray, " n"]
) -> dict[str, Any]:
    """Returns how many images only one of two models classifies correctly.

    McNemar 1947. The p-value is that of the two-sided exact binomial test, under the
    hypothesis that both numbers are equally likely.
    """
    only_first, only_second = int(np.sum(first & ~second)), int(np.sum(second & ~first))
    differing = only_first + only_second
    p_value = stats.binomtest(only_first, differing).pvalue if differing else 1.0
    return {
        "only_first": only_first,
        "only_second": only_second,
        "p_value": float(p_value),
    }
