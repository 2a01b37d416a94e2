"""How far a figure can be trusted: intervals over images and seeds, paired tests."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

RESAMPLES = 2000
LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A confidence interval of level :data:`LEVEL`."""

    low: float
    high: float


def bootstrap(values: Float[np.ndarray, "n k"], *, seed: int = 0) -> list[Interval]:
    """Percentile intervals of the means of k figures, over resampled images.

    Efron, Tibshirani: "An Introduction to the Bootstrap", 1993, section 13.3.

    Args:
        values: of each image: right or not as 1 or 0, its loss, ...
        seed: of the resampling.
    """
    rng = np.random.default_rng(seed)
    n = len(values)
    # How often each image is drawn; the draws of one resample sum to n.
    means = np.stack(
        [
            np.bincount(rng.integers(n, size=n), minlength=n) @ values / n
            for _ in range(RESAMPLES)
        ]
    )
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(means, [tail, 1 - tail], axis=0)
    return [Interval(float(a), float(b)) for a, b in zip(low, high, strict=True)]


def over_seeds(figures: Sequence[float]) -> tuple[float, float, Interval | None]:
    """Mean, standard deviation, and Student's interval of the mean over runs.

    The standard deviation is 0, and the interval None, for a single run.
    """
    mean = statistics.fmean(figures)
    if len(figures) < 2:
        return mean, 0.0, None
    from scipy import stats  # takes a while to import

    deviation = statistics.stdev(figures)
    quantile = float(stats.t.ppf((1 + LEVEL) / 2, len(figures) - 1))
    half = quantile * deviation / math.sqrt(len(figures))
    return mean, deviation, Interval(mean - half, mean + half)


@dataclass(frozen=True)
class PairedTest:
    """McNemar's exact test of two models on the same images.

    Attributes:
        only_first: images that the first alone has right.
        only_second: images that the second alone has right.
        p_value: of the hypothesis that both are right equally often.
    """

    only_first: int
    only_second: int
    p_value: float


def mcnemar(
    first: Bool[np.ndarray, " n"], second: Bool[np.ndarray, " n"]
) -> PairedTest:
    """Compares which images two models have right.

    McNemar 1947; exact: of the images that one alone has right, each model has half
    under the hypothesis. 1 if there are none.
    """
    from scipy import stats  # takes a while to import

    only_first = int(np.sum(first & ~second))
    only_second = int(np.sum(second & ~first))
    differing = only_first + only_second
    p_value = 1.0
    if differing:
        p_value = float(stats.binomtest(only_first, differing).pvalue)
    return PairedTest(only_first, only_second, p_value)
