"""What a model's confidence is worth: temperature, reliability, risk by coverage."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Integer
from scipy import optimize

from jax_resnet.evaluation.metrics import (
    CALIBRATION_BINS,
    calibration_bin,
    expected_calibration_error,
    log_softmax,
)

FOLDS = 5
# Logits a thousand times too large or too small are no longer a matter of calibration.
_LOG_TEMPERATURES = (-7.0, 7.0)


@dataclass(frozen=True)
class Reliability:
    """A reliability diagram: images by the confidence of their prediction.

    Attributes:
        counts: images in each bin ((m-1)/M, m/M].
        confidence: their mean confidence; NaN where there are none.
        accuracy: the fraction of them that is right; NaN where there are none.
        ece: the expected calibration error.
    """

    counts: Int[np.ndarray, " bins"]
    confidence: Float[np.ndarray, " bins"]
    accuracy: Float[np.ndarray, " bins"]
    ece: float


def reliability(
    confidence: Float[np.ndarray, " n"], right: Bool[np.ndarray, " n"]
) -> Reliability:
    """The diagram of predictions; Guo et al. 2017, figure 1 and equations 1 to 3."""
    bins = calibration_bin(confidence)
    counts = np.bincount(bins, minlength=CALIBRATION_BINS)

    def mean(values: np.ndarray) -> np.ndarray:
        sums = np.bincount(bins, values.astype(float), minlength=CALIBRATION_BINS)
        return np.divide(
            sums, counts, out=np.full(len(counts), np.nan), where=counts > 0
        )

    ece = expected_calibration_error(confidence, right)
    return Reliability(counts, mean(confidence), mean(right), ece)


def fit_temperature(
    logits: Float[np.ndarray, "n classes"], labels: Integer[np.ndarray, " n"]
) -> float:
    """The T for which softmax(logits / T) has the least cross-entropy.

    Guo et al., "On Calibration of Modern Neural Networks", 2017, section 4.2. The
    cross-entropy is convex in 1/T.
    """

    def cross_entropy(log_temperature: float) -> float:
        scaled = log_softmax(logits.astype(np.float64) / np.exp(log_temperature))
        return -float(scaled[np.arange(len(labels)), labels].mean())

    found = optimize.minimize_scalar(
        cross_entropy, bounds=_LOG_TEMPERATURES, method="bounded"
    )
    return float(np.exp(found.x))


def cross_fitted(
    logits: Float[np.ndarray, "n classes"],
    labels: Integer[np.ndarray, " n"],
    *,
    folds: int = FOLDS,
    seed: int = 0,
) -> Float[np.ndarray, "n classes"]:
    """Logits, each divided by a temperature fitted on the other folds.

    So that a split can say how well temperatures fitted on such images do, without
    having seen the image at hand.
    """
    fold = np.random.default_rng(seed).permutation(len(labels)) % folds
    scaled = logits.astype(np.float64)
    for number in range(folds):
        out = fold == number
        scaled[out] /= fit_temperature(logits[~out], labels[~out])
    return scaled


def risk_by_coverage(
    confidence: Float[np.ndarray, " n"], right: Bool[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Coverage, and the fraction of wrong predictions among the most confident.

    El-Yaniv, Wiener: "On the Foundations of Noise-free Selective Classification",
    2010. The area under this curve is the mean of the risks.
    """
    order = np.argsort(-confidence, kind="stable")
    covered = np.arange(1, len(right) + 1)
    return covered / len(right), np.cumsum(~right[order]) / covered
