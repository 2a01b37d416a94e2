"""The results of an evaluation, from the logits and labels of a split."""

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Integer
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
    Interval,
    bootstrap_intervals,
    mcnemar,
    mean_over_runs,
)
from jax_resnet.runtime.errors import UserError

MOST_CONFUSED = 10  # pairs of classes
MISTAKES = 25


@dataclass(frozen=True)
class Calibration:
    """The effect of temperature scaling."""

    temperature: float  # to divide logits by
    fitted_on: str  # describes the images that it was fitted on
    loss_after: float  # cross-entropy of the scaled logits
    ece_after: float  # expected calibration error of the scaled logits
    # reliability diagram of the logits as they are
    bins_before: tuple[calibration.Bin, ...]
    bins_after: tuple[calibration.Bin, ...]  # reliability diagram of the scaled logits


@dataclass(frozen=True)
class Evaluation:
    """The results of a model on n images. Fractions are in [0, 1]."""

    info: DatasetInfo
    top1: float  # fraction of the images whose prediction is the label
    top5: float  # fraction of the images whose label is among the five largest logits
    loss: float  # mean cross-entropy in nats
    ece: float  # expected calibration error
    # bootstrap intervals of ``top1``, ``top5`` and ``loss``
    intervals: dict[str, Interval]
    calibration: Calibration  # the effect of temperature scaling
    mistakes: list[dict[str, Any]]  # the most confident, by their place in the split
    # number of images by class (row) and prediction (column)
    confusion: Int[np.ndarray, "classes classes"]
    # whether the prediction is the label, for each image
    correct: Bool[np.ndarray, " n"]
    logits: Float[np.ndarray, "n classes"]
    labels: Integer[np.ndarray, " n"]

    def as_dict(self) -> dict[str, Any]:
        """Returns the results, also by class and by superclass, for JSON."""
        n, names = len(self.correct), self.info.superclass_names
        superclasses = _superclass_confusion(self.confusion, self.info)
        return {
            "n": n,
            "top1": self.top1,
            "top5": self.top5,
            "loss": self.loss,
            "ece": self.ece,
            "superclass_top1": float(superclasses.trace() / n) if names else None,
            "per_class": _accuracies(self.info.class_names, self.confusion),
            "per_superclass": _accuracies(names, superclasses),
            "most_confused": _most_confused(self.info.class_names, self.confusion),
            "interval_level": LEVEL,
            "intervals": self.intervals,
            "calibration": asdict(self.calibration),
            "mistakes": self.mistakes,
            "confusion": self.confusion.tolist(),
        }


def evaluate(
    logits: Float[np.ndarray, "n classes"],
    labels: Integer[np.ndarray, " n"],
    info: DatasetInfo,
    *,
    split: str,
    held_out: tuple[Float[np.ndarray, "m classes"], Integer[np.ndarray, " m"]]
    | None = None,
) -> Evaluation:
    """Computes all results from the logits of a split.

    ``held_out`` are logits and labels of images that were held out of training, to fit
    the temperature on. Without them it is cross-validated on the split. Raises
    :class:`UserError` if a logit is not finite, or there is only one image.
    """
    if not np.isfinite(logits).all():
        raise UserError("the model's logits are not finite: use another checkpoint")
    if len(labels) < 2:
        raise UserError(f"{split} has a single image: intervals need at least two")
    ranks, losses = label_ranks(logits, labels), cross_entropy(logits, labels)
    correct, confidence = ranks < 1, _confidence(logits)
    values = np.stack([correct, ranks < 5, losses], axis=1)
    intervals = bootstrap_intervals(values)
    return Evaluation(
        info=info,
        top1=float(correct.mean()),
        top5=float((ranks < 5).mean()),
        loss=float(losses.mean()),
        ece=calibration.expected_calibration_error(confidence, correct),
        intervals=dict(zip(("top1", "top5", "loss"), intervals, strict=True)),
        calibration=_calibrate(logits, labels, split, held_out),
        mistakes=_mistakes(logits, labels, info.class_names),
        confusion=confusion_matrix(logits, labels),
        correct=correct,
        logits=logits,
        labels=labels,
    )


def compare(names: Sequence[str], evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    """Compares several models on the same images.

    Returns the spread of the top-1 and a paired test of each two models, for JSON.
    """
    mean, deviation, interval = mean_over_runs([e.top1 for e in evaluations])
    pairs = itertools.combinations(zip(names, evaluations, strict=True), 2)
    return {
        "interval_level": LEVEL,
        "top1_over_models": {
            "mean": mean,
            "standard_deviation": deviation,
            "interval": interval,
        },
        "paired_tests": [
            {"first": a, "second": b, **mcnemar(one.correct, other.correct)}
            for (a, one), (b, other) in pairs
        ],
    }


def _confidence(logits: np.ndarray) -> np.ndarray:
    return np.exp(log_softmax(logits.astype(np.float64), axis=1).max(axis=1))


def _calibrate(
    logits: np.ndarray,
    labels: np.ndarray,
    split: str,
    held_out: tuple[np.ndarray, np.ndarray] | None,
) -> Calibration:
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
    return Calibration(
        temperature=temperature,
        fitted_on=fitted_on,
        loss_after=float(cross_entropy(scaled, labels).mean()),
        ece_after=calibration.expected_calibration_error(confidence, correct),
        bins_before=calibration.reliability_diagram(_confidence(logits), correct),
        bins_after=calibration.reliability_diagram(confidence, correct),
    )


def _mistakes(
    logits: np.ndarray, labels: np.ndarray, names: Sequence[str]
) -> list[dict[str, Any]]:
    predicted, confidence = logits.argmax(axis=1), _confidence(logits)
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
