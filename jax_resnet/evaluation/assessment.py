"""Everything that an evaluation finds out from the logits of a split."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Integer

from jax_resnet.evaluation import calibration as conf
from jax_resnet.evaluation.metrics import (
    ClassNames,
    Evaluation,
    confusion_matrix,
    evaluate,
    label_ranks,
    log_softmax,
)
from jax_resnet.evaluation.statistics import LEVEL, Interval, bootstrap

MISTAKES = 25  # listed, and drawn
COVERAGES = (0.5, 0.8, 0.9, 0.95, 1.0)


@dataclass(frozen=True)
class Calibration:
    """What temperature scaling does.

    Attributes:
        temperature: for images to come.
        fitted_on: in words.
        loss: of the scaled logits, in nats.
        before: the reliability of the model as it is.
        after: with its logits divided by a temperature that was fitted without them.
    """

    temperature: float
    fitted_on: str
    loss: float
    before: conf.Reliability
    after: conf.Reliability


@dataclass(frozen=True)
class Mistake:
    """An image that the model takes for another class."""

    index: int
    label: str
    predicted: str
    confidence: float


@dataclass(frozen=True)
class Assessment:
    """What is known of a model on a split.

    Attributes:
        evaluation: the figures.
        intervals: of ``top1``, ``top5`` and ``loss``, over the images.
        calibration: see there.
        confusion: images by class (row) and what they are taken for (column).
        coverage: fractions of the images, the most confident first.
        risk: the fraction of these that is wrong.
        mistakes: the most confident ones.
        right: whether each image is.
    """

    evaluation: Evaluation
    intervals: dict[str, Interval]
    calibration: Calibration
    confusion: Int[np.ndarray, "classes classes"]
    coverage: Float[np.ndarray, " n"]
    risk: Float[np.ndarray, " n"]
    mistakes: tuple[Mistake, ...]
    right: Bool[np.ndarray, " n"]

    def as_dict(self) -> dict[str, Any]:
        """The report in JSON."""
        calibration, n = self.calibration, self.evaluation.n
        at = {c: self.risk[max(0, round(c * n) - 1)] for c in COVERAGES}
        return {
            **self.evaluation.as_dict(),
            "interval_level": LEVEL,
            "intervals": {k: [i.low, i.high] for k, i in self.intervals.items()},
            "calibration": {
                "temperature": calibration.temperature,
                "fitted_on": calibration.fitted_on,
                "loss_after": calibration.loss,
                "ece_after": calibration.after.ece,
                "bins_before": _bins(calibration.before),
                "bins_after": _bins(calibration.after),
            },
            "risk_at_coverage": {str(c): float(risk) for c, risk in at.items()},
            "risk_coverage_area": float(self.risk.mean()),
            "mistakes": [vars(mistake) for mistake in self.mistakes],
            "confusion": self.confusion.tolist(),
        }


def assess(
    logits: Float[np.ndarray, "n classes"],
    labels: Integer[np.ndarray, " n"],
    info: ClassNames,
    *,
    split: str,
    held_out: tuple[Float[np.ndarray, "m classes"], Integer[np.ndarray, " m"]]
    | None = None,
) -> Assessment:
    """Assesses a model by its logits, all finite.

    Args:
        logits: of the images of the split.
        labels: of them.
        info: names of the classes.
        split: its name.
        held_out: logits and labels of training images that the model has not seen,
            for the temperature; without them it is cross-validated on the split.
    """
    rows = np.arange(len(labels))
    log_probabilities = log_softmax(logits)
    ranks = label_ranks(logits, labels)
    right = ranks < 1
    values = np.stack(
        [
            right.astype(np.float64),
            (ranks < 5).astype(np.float64),
            -log_probabilities[rows, labels],
        ],
        axis=1,
    )
    confidence = np.exp(log_probabilities.max(axis=1))
    coverage, risk = conf.risk_by_coverage(confidence, right)
    predicted = logits.argmax(axis=1)
    order = np.argsort(-confidence, kind="stable")
    mistakes = tuple(
        Mistake(
            index=int(index),
            label=info.class_names[labels[index]],
            predicted=info.class_names[predicted[index]],
            confidence=float(confidence[index]),
        )
        for index in order[~right[order]][:MISTAKES]
    )
    return Assessment(
        evaluation=evaluate(logits, labels, info=info),
        intervals=dict(zip(("top1", "top5", "loss"), bootstrap(values), strict=True)),
        calibration=_calibrate(logits, labels, confidence, right, split, held_out),
        confusion=confusion_matrix(logits, labels),
        coverage=coverage,
        risk=risk,
        mistakes=mistakes,
        right=right,
    )


def _calibrate(
    logits: np.ndarray,
    labels: np.ndarray,
    confidence: np.ndarray,
    right: np.ndarray,
    split: str,
    held_out: tuple[np.ndarray, np.ndarray] | None,
) -> Calibration:
    if held_out is not None:
        temperature = conf.fit_temperature(*held_out)
        scaled = logits.astype(np.float64) / temperature
        fitted_on = f"{len(held_out[1]):,} training images that were held out"
    else:
        temperature = conf.fit_temperature(logits, labels)
        scaled = conf.cross_fitted(logits, labels)
        fitted_on = (
            f"{split} itself; the figures after it are cross-validated in {conf.FOLDS} "
            "folds, each scaled by what fits the others"
        )
    log_probabilities = log_softmax(scaled)
    return Calibration(
        temperature=temperature,
        fitted_on=fitted_on,
        loss=float(-log_probabilities[np.arange(len(labels)), labels].mean()),
        before=conf.reliability(confidence, right),
        after=conf.reliability(np.exp(log_probabilities.max(axis=1)), right),
    )


def _bins(reliability: conf.Reliability) -> list[dict[str, Any]]:
    columns = (reliability.counts, reliability.confidence, reliability.accuracy)
    return [
        {
            "count": int(count),
            "confidence": float(confidence) if count else None,
            "accuracy": float(accuracy) if count else None,
        }
        for count, confidence, accuracy in zip(*columns, strict=True)
    ]
