"""Probabilities as the names of the most probable classes."""

from typing import TypedDict

import numpy as np
from jaxtyping import Float

from jax_resnet.data.source import DatasetInfo


class ClassConfidence(TypedDict):
    """A class and its probability. Superclasses exist for some data sets only."""

    label: str
    superclass: str | None
    confidence: float


def top_classes(
    probabilities: Float[np.ndarray, " classes"], info: DatasetInfo, count: int = 5
) -> tuple[list[ClassConfidence], np.ndarray]:
    """Returns the most probable classes, and their indices."""
    order = np.argsort(-probabilities, kind="stable")[:count]
    classes = [
        ClassConfidence(
            label=readable(info.class_names[c]),
            superclass=readable(info.superclass_names[info.superclass_of[c]])
            if len(info.superclass_of)
            else None,
            confidence=float(probabilities[c]),
        )
        for c in order
    ]
    return classes, order


def readable(name: str) -> str:
    """Returns a class name with spaces for underscores."""
    return name.replace("_", " ")
