"""Exact evaluation figures from all logits of a split, in NumPy.

Everything is counted in integers or summed in float64 and divided once, so the
figures do not depend on batch size or device. Fractions are in [0, 1].
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int, Integer

CALIBRATION_BINS = 15
LISTED = 10  # confused pairs, best and worst classes


@runtime_checkable
class ClassNames(Protocol):
    """What :func:`evaluate` needs to know of a data set; ``DatasetInfo`` has it."""

    @property
    def class_names(self) -> Sequence[str]:
        """Names of the classes, in the order of the logits."""

    @property
    def superclass_names(self) -> Sequence[str]:
        """Names of the groups of classes; empty where the data set has none."""

    @property
    def superclass_of(self) -> Sequence[int]:
        """For each class the index of its group; empty where there are none."""


@dataclass(frozen=True)
class GroupAccuracy:
    """The right predictions among the images of one class or superclass.

    Attributes:
        name: Its name.
        count: How many images have it as their label.
        accuracy: Fraction of them that are right; None where there are no images.
    """

    name: str
    count: int
    accuracy: float | None


@dataclass(frozen=True)
class Evaluation:
    """How well a model does on one split.

    Attributes:
        n: Number of images.
        top1: Fraction whose label is the prediction.
        top5: Fraction whose label is among the five largest logits.
        loss: Mean cross-entropy in nats, without label smoothing or weight decay.
        ece: Expected calibration error (Guo et al. 2017, equation 3).
        superclass_top1: Fraction whose predicted class is in the label's
            superclass; None where there are no superclasses.
        per_class: Accuracy of each class, in the order of the logits.
        per_superclass: For each superclass the fraction of its images whose
            predicted class is in it, right or not. Empty where there are none.
        most_confused: ``(true class, predicted class, images)`` of the pairs
            confused most often, at most ten; ties in the order of the classes.
    """

    n: int
    top1: float
    top5: float
    loss: float
    ece: float
    superclass_top1: float | None
    per_class: tuple[GroupAccuracy, ...]
    per_superclass: tuple[GroupAccuracy, ...]
    most_confused: tuple[tuple[str, str, int], ...]

    def as_dict(self) -> dict[str, Any]:
        """Returns the figures for strict JSON; those that are not finite are None."""
        figures = asdict(self)
        for name in ("loss", "ece"):
            if not math.isfinite(figures[name]):
                figures[name] = None
        return figures


def label_ranks(
    logits: Float[np.ndarray, "n classes"], labels: Integer[np.ndarray, " n"]
) -> Int[np.ndarray, " n"]:
    """Counts the classes that rank before the label.

    Those are the classes with a greater logit, and of the equal ones those with a
    lower index, as ``argmax`` has it: a label of rank 0 is the prediction, one of
    rank below k is in the top k. The evaluation on the device counts the same way.

    Args:
        logits: Any float dtype, shape [n, classes].
        labels: Class indices in [0, classes), shape [n].

    Returns:
        Ranks in [0, classes), int64, shape [n]; meaningless where a logit is NaN.
    """
    own = np.take_along_axis(logits, labels[:, None].astype(np.intp), axis=1)
    lower = np.arange(logits.shape[1]) < labels[:, None]
    return np.sum((logits > own) | ((logits == own) & lower), axis=1)


def log_softmax(
    logits: Float[np.ndarray, "n classes"],
) -> Float[np.ndarray, "n classes"]:
    """Returns log-probabilities in float64, without overflow for finite logits.

    Rows with a NaN or a +inf become NaN.
    """
    with np.errstate(invalid="ignore"):
        shifted = logits.astype(np.float64)
        shifted -= shifted.max(axis=1, keepdims=True)
        return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def mean_log_probabilities(
    logits: Sequence[Float[np.ndarray, "n classes"]],
) -> Float[np.ndarray, "n classes"]:
    """Returns the logarithm of the mean of several softmaxes, in float64.

    It stands for the logits of those who predict together.

    Args:
        logits: of each of them, finite.
    """
    log_probabilities = [log_softmax(of_one) for of_one in logits]
    return np.logaddexp.reduce(log_probabilities, axis=0) - np.log(len(logits))


def calibration_bin(
    confidence: Float[np.ndarray, " n"], *, bins: int = CALIBRATION_BINS
) -> Int[np.ndarray, " n"]:
    """Returns the bin of each confidence, from 0: bin m-1 of M is ((m-1)/M, m/M]."""
    return np.searchsorted(np.arange(1, bins) / bins, confidence, side="left")


def confusion_matrix(
    logits: Float[np.ndarray, "n classes"], labels: Integer[np.ndarray, " n"]
) -> Int[np.ndarray, "classes classes"]:
    """Returns how many images of each class (row) are taken for each (column)."""
    confusion = np.zeros((logits.shape[1],) * 2, np.int64)
    np.add.at(confusion, (labels, logits.argmax(axis=1)), 1)
    return confusion


def expected_calibration_error(
    confidence: Float[np.ndarray, " n"],
    right: Bool[np.ndarray, " n"],
    *,
    bins: int = CALIBRATION_BINS,
) -> float:
    """Returns the expected calibration error over equal-width bins.

    The mean over images of |accuracy - mean confidence| of the image's bin, bin m
    of M being ((m-1)/M, m/M]. Guo et al., "On Calibration of Modern Neural
    Networks", 2017, equations 1-3, with their 15 bins by default.

    Args:
        confidence: Probability of each image's predicted class, float64, shape [n].
        right: Whether the prediction is the label, shape [n].
        bins: M.

    Returns:
        A fraction in [0, 1]; NaN if any confidence is.
    """
    if np.isnan(confidence).any():
        return math.nan
    bin_of = calibration_bin(confidence, bins=bins)
    # |accuracy - confidence| times the bin's count is the difference of its sums.
    gaps = np.bincount(bin_of, weights=right - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(confidence))


def evaluate(
    logits: Float[np.ndarray, "n classes"],
    labels: Integer[np.ndarray, " n"],
    *,
    info: ClassNames,
) -> Evaluation:
    """Computes every figure of an evaluation from all logits of a split.

    The prediction is the first of the largest logits. An image whose loss is not
    finite has none and is wrong in every count.

    Args:
        logits: float32, shape [n, classes].
        labels: Class indices in [0, classes), shape [n].
        info: The names of the classes and superclasses.

    Returns:
        The figures, exact over the n images.

    Raises:
        ValueError: There are no images, or logits, labels and class names do not
            belong together.
    """
    n, classes = logits.shape
    if n == 0:
        raise ValueError("no images to evaluate")
    if classes != len(info.class_names):
        raise ValueError(f"{classes} logits for {len(info.class_names)} class names")
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"labels reach outside the {classes} classes")

    ranks = label_ranks(logits, labels)
    log_probabilities = log_softmax(logits)
    losses = 0.0 - log_probabilities[np.arange(n), labels]
    finite = np.isfinite(losses)
    right = finite & (ranks < 1)

    confusion = confusion_matrix(logits[finite], labels[finite])
    counts = np.bincount(labels, minlength=classes)
    per_class = _accuracies(info.class_names, counts, confusion.diagonal())

    per_superclass: tuple[GroupAccuracy, ...] = ()
    superclass_top1 = None
    if len(info.superclass_names):
        # Row s, column c: whether class c is in superclass s.
        member = np.arange(len(info.superclass_names))[:, None] == info.superclass_of
        hits = np.diagonal(member @ confusion @ member.T)
        per_superclass = _accuracies(info.superclass_names, member @ counts, hits)
        superclass_top1 = float(hits.sum() / n)

    return Evaluation(
        n=n,
        top1=float(right.sum() / n),
        top5=float((finite & (ranks < 5)).sum() / n),
        loss=float(losses.sum() / n),
        ece=expected_calibration_error(np.exp(log_probabilities.max(axis=1)), right),
        superclass_top1=superclass_top1,
        per_class=per_class,
        per_superclass=per_superclass,
        most_confused=_most_confused(confusion, info.class_names),
    )


def _accuracies(
    names: Sequence[str], counts: np.ndarray, hits: np.ndarray
) -> tuple[GroupAccuracy, ...]:
    return tuple(
        GroupAccuracy(name, int(count), float(hit / count) if count else None)
        for name, count, hit in zip(names, counts, hits, strict=True)
    )


def _most_confused(
    confusion: np.ndarray, names: Sequence[str]
) -> tuple[tuple[str, str, int], ...]:
    wrong = confusion - np.diag(confusion.diagonal())
    order = np.argsort(-wrong, axis=None, kind="stable")[:LISTED]
    pairs = zip(*np.unravel_index(order, wrong.shape), strict=True)
    return tuple(
        (names[true], names[predicted], int(wrong[true, predicted]))
        for true, predicted in pairs
        if wrong[true, predicted]
    )
