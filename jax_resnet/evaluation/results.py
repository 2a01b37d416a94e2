"""The results of an evaluation, from the logits and labels of a split."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Integer
from scipy.special import log_softmax

from jax_resnet.data import DatasetInfo
from jax_resnet.evaluation import calibration
from jax_resnet.evaluation.metrics import (
    confusion_matrix,
    cross_entropy,
    label_ranks,
)
from jax_resnet.evaluation.statistics import (
    LEVEL,
    bootstrap_intervals,
    mcnemar,
    mean_over_runs,
)
from jax_resnet.runtime.errors import UserError

MOST_CONFUSED = 10  # pairs of classes
MISTAKES = 25


def evaluate(
    logits: Float[np.ndarray, "n classes"],
    labels: Integer[np.ndarray, " n"],
    info: DatasetInfo,
    *,
    split: str,
    held_out: tuple[Float[np.ndarray, "m classes"], Integer[np.ndarray, " m"]]
    | None = None,
) -> dict[str, Any]:
    """Computes all results from the logits of a split, for JSON.

    Fractions are in [0, 1], losses in nats. ``held_out`` are logits and labels of
    images that were held out of training, to fit the temperature on. Without them it is
    cross-validated on the split. Raises UserError if a logit is not finite, or there is
    only one image.
    """
    if not np.isfinite(logits).all():
        raise UserError("the model's logits are not finite: use another checkpoint")
    if len(labels) < 2:
        raise UserError(f"{split} has a single image: intervals need at least two")
    ranks, losses = label_ranks(logits, labels), cross_entropy(logits, labels)
    correct, in_top5 = ranks < 1, ranks < 5
    intervals = bootstrap_intervals(np.stack([correct, in_top5, losses], axis=1))
    confidence, confusion = _confidence(logits), confusion_matrix(logits, labels)
    superclasses = _superclass_confusion(confusion, info)
    names = info.superclass_names
    return {
        "n": len(labels),
        "top1": float(correct.mean()),
        "top5": float(in_top5.mean()),
        "loss": float(losses.mean()),
        "ece": calibration.expected_calibration_error(confidence, correct),
        "superclass_top1": float(superclasses.trace() / len(labels)) if names else None,
        "per_class": _accuracies(info.class_names, confusion),
        "per_superclass": _accuracies(names, superclasses),
        "most_confused": _most_confused(info.class_names, confusion),
        "interval_level": LEVEL,
        "intervals": dict(zip(("top1", "top5", "loss"), intervals, strict=True)),
        "calibration": {
            **_scale(logits, labels, split, held_out),
            "bins_before": calibration.reliability_diagram(confidence, correct),
        },
        "mistakes": _mistakes(logits, labels, confidence, info.class_names),
        "confusion": confusion.tolist(),
    }


def compare(
    names: Sequence[str], correct: Sequence[Bool[np.ndarray, " n"]]
) -> dict[str, Any]:
    """Compares several models by which of the same images they classify correctly.

    Returns the spread of the top-1 and a paired test of each two models, for JSON.
    """
    mean, deviation, interval = mean_over_runs([float(one.mean()) for one in correct])
    pairs = itertools.combinations(zip(names, correct, strict=True), 2)
    return {
        "interval_level": LEVEL,
        "top1_over_models": {
            "mean": mean,
            "standard_deviation": deviation,
            "interval": interval,
        },
        "paired_tests": [
            {"first": a, "second": b, **mcnemar(one, other)}
            for (a, one), (b, other) in pairs
        ],
    }


def _confidence(logits: np.ndarray) -> np.ndarray:
    return np.exp(log_softmax(logits.astype(np.float64), axis=1).max(axis=1))


def _scale(
    logits: np.ndarray,
    labels: np.ndarray,
    split: str,
    held_out: tuple[np.ndarray, np.ndarray] | None,
) -> dict[str, Any]:
    """Returns the temperature, and the results with it."""
    if held_out is not None:
        temperature = calibration.fit_temperature(*held_out)
        scaled = logits.astype(np.float64) / temperature
        fitted_on = f"{len(held_out[1]):,} training images that were held out"
    else:
        temperature = calibration.fit_temperature(logits, labels)
        scaled = calibration.scale_cross_validated(logits, labels)
        fitted_on = (
            f"{split} itself; the results with it are cross-validated: each of "
            f"{calibration.FOLDS} folds is scaled by a temperature fitted on the others"
        )
    correct, confidence = logits.argmax(axis=1) == labels, _confidence(scaled)
    return {
        "temperature": temperature,
        "fitted_on": fitted_on,
        "loss_after": float(cross_entropy(scaled, labels).mean()),
        "ece_after": calibration.expected_calibration_error(confidence, correct),
        "bins_after": calibration.reliability_diagram(confidence, correct),
    }


def _mistakes(
    logits: np.ndarray,
    labels: np.ndarray,
    confidence: np.ndarray,
    names: Sequence[str],
) -> list[dict[str, Any]]:
    """Returns the most confident mistakes, with their places in the split."""
    predicted = logits.argmax(axis=1)
    order = np.argsort(-confidence, kind="stable")
    wrong = order[predicted[order] != labels[order]]
    return [
        {
            "index": int(i),
            "label": names[labels[i]],
            "predicted": names[predicted[i]],
            "confidence": float(confidence[i]),
        }
        for i in wrong[:MISTAKES]
    ]


def _superclass_confusion(confusion: np.ndarray, info: DatasetInfo) -> np.ndarray:
    """Adds up the confusion matrix over the classes of each superclass."""
    shape = len(info.superclass_names), len(confusion)
    member = np.zeros(shape, np.int64)  # row: superclass, column: class
    member[list(info.superclass_of), np.arange(len(info.superclass_of))] = 1
    return member @ confusion @ member.T


def _accuracies(names: Sequence[str], confusion: np.ndarray) -> list[dict[str, Any]]:
    counts, hits = confusion.sum(axis=1).tolist(), confusion.diagonal().tolist()
    return [
        {"name": name, "count": count, "accuracy": hit / count if count else None}
        for name, count, hit in zip(names, counts, hits, strict=True)
    ]


def _most_confused(
    names: Sequence[str], confusion: np.ndarray
) -> list[tuple[str, str, int]]:
    """Returns class, prediction and number of images, most images first."""
    wrong = confusion - np.diag(confusion.diagonal())
    order = np.argsort(-wrong, axis=None, kind="stable")[:MOST_CONFUSED]
    pairs = zip(*np.unravel_index(order, wrong.shape), strict=True)
    return [(names[a], names[b], int(wrong[a, b])) for a, b in pairs if wrong[a, b]]
