import math

import numpy as np
import pytest

from jax_resnet.evaluation.metrics import (
    confusion_matrix,
    cross_entropy,
    label_ranks,
)


def test_ranks_and_confusion_equal_plain_loops():
    rng = np.random.default_rng(0)
    logits = rng.integers(0, 4, (200, 6)).astype(np.float32)  # with many ties
    labels = rng.integers(0, 6, 200)
    order = [sorted(range(6), key=lambda c: (-row[c], c)) for row in logits.tolist()]
    ranks = [o.index(label) for o, label in zip(order, labels, strict=True)]
    assert label_ranks(logits, labels).tolist() == ranks
    confusion = np.zeros((6, 6), int)
    for o, label in zip(order, labels, strict=True):
        confusion[label, o[0]] += 1
    np.testing.assert_array_equal(confusion_matrix(logits, labels), confusion)


def test_cross_entropy_is_precise_and_finite():
    logits = np.array([[20, 0], [3e38, -3e38], [1, 3]], np.float32)
    losses = cross_entropy(logits, np.array([0, 0, 0]))
    expected = [math.log1p(math.exp(-20)), 0, math.log(1 + math.exp(2))]
    assert losses == pytest.approx(expected, rel=1e-12)
    assert math.copysign(1, losses[1]) == 1
