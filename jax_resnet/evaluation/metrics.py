"""Exact classification metrics in NumPy, from logits and labels.

Ranks are counted in integers and losses are computed in float64, so the results do not
depend on the batch size or the device.
"""

import numpy as np
from jaxtyping import Float, Int, Integer
from scipy.special import log_softmax


def label_ranks(
    logits: Float[np.ndarray, "n classes"], labels: Integer[np.ndarray, " n"]
) -> Int[np.ndarray, " n"]:
    """Returns the rank of each label among the logits of its image.

    Rank 0 is the prediction, and ranks below k are in the top k. Of equal logits, the
    first ranks first, as for ``argmax`` and for the validation during training.
    """
    own = np.take_along_axis(logits, labels[:, None].astype(np.intp), axis=1)
    earlier = np.arange(logits.shape[1]) < labels[:, None]
    return np.sum((logits > own) | ((logits == own) & earlier), axis=1)


def cross_entropy(
    logits: Float[np.ndarray, "n classes"], labels: Integer[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """Returns the cross-entropy of each image in nats, in float64."""
    log_probabilities = log_softmax(logits.astype(np.float64), axis=1)
    return 0.0 - log_probabilities[np.arange(len(labels)), labels]  # never -0.0


def confusion_matrix(
    logits: Float[np.ndarray, "n classes"], labels: Integer[np.ndarray, " n"]
) -> Int[np.ndarray, "classes classes"]:
    """Returns how many images of each class (row) have each prediction (column)."""
    confusion = np.zeros((logits.shape[1],) * 2, np.int64)
    np.add.at(confusion, (labels, logits.argmax(axis=1)), 1)
    return confusion
