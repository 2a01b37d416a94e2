"""Calibration of confidences: reliability diagram and temperature."""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Integer
from scipy import optimize

from jax_resnet.evaluation.metrics import cross_entropy

BINS = 15
FOLDS = 5
_LOG_TEMPERATURES = (-7.0, 7.0)  # search bounds; real models are well inside


def reliability_diagram(
    confidence: Float[np.ndarray, " n"], correct: Bool[np.ndarray, " n"]
) -> list[dict[str, Any]]:
    """Returns count, mean confidence and accuracy of the predictions in each bin.

    Bin m of M is ((m-1)/M, m/M]; the means are None where it is empty. Guo et al., "On
    Calibration of Modern Neural Networks", 2017, figure 1.
    """
    bins = _bin_indices(confidence)
    sums = zip(
        np.bincount(bins, minlength=BINS).tolist(),
        np.bincount(bins, confidence, minlength=BINS).tolist(),
        np.bincount(bins, correct, minlength=BINS).tolist(),
        strict=True,
    )
    return [
        {
            "count": count,
            "confidence": confident / count if count else None,
            "accuracy": hits / count if count else None,
        }
        for count, confident, hits in sums
    ]


def expected_calibration_error(
    confidence: Float[np.ndarray, " n"], correct: Bool[np.ndarray, " n"]
) -> float:
    """Returns the mean over images of |accuracy - mean confidence| of the image's bin.

    Guo et al. 2017, equations 1 to 3, with their 15 bins. The confidence is the
    probability of the predicted class.
    """
    # A bin's count times its gap is the difference of two sums.
    gaps = np.bincount(_bin_indices(confidence), correct - confidence)
    return float(np.abs(gaps).sum() / len(confidence))


def _bin_indices(confidence: Float[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    return np.searchsorted(np.arange(1, BINS) / BINS, confidence)


def fit_temperature(
    logits: Float[np.ndarray, "n classes"], labels: Integer[np.ndarray, " n"]
) -> float:
    """Returns the T that minimises the cross-entropy of softmax(logits / T).

    Guo et al. 2017, section 4.2. The cross-entropy is convex in 1/T.
    """
    logits = logits.astype(np.float64)
    found = optimize.minimize_scalar(
        lambda log: cross_entropy(logits / np.exp(log), labels).mean(),
        bounds=_LOG_TEMPERATURES,
        method="bounded",
    )
    return float(np.exp(found.x))


def scale_cross_validated(
    logits: Float[np.ndarray, "n classes"], labels: Integer[np.ndarray, " n"]
) -> Float[np.ndarray, "n classes"]:
    """Divides the logits of each of 5 folds by a temperature fitted on the others."""
    fold = np.random.default_rng(0).permutation(len(labels)) % FOLDS
    scaled = logits.astype(np.float64)
    for number in range(FOLDS):
        out = fold == number
        scaled[out] /= fit_temperature(logits[~out], labels[~out])
    return scaled
