"""Checks of the user's own images: their classes, and images that are in two splits."""

import hashlib
import logging
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Int32, UInt8

from jax_resnet.data.source import Split
from jax_resnet.runtime.errors import UserError

_log = logging.getLogger(__name__)


def check_classes(
    place: object,
    class_names: Sequence[str],
    labels: Mapping[str, Int32[np.ndarray, " n"]],
    *,
    least: int = 1,
) -> None:
    """Checks that a model can learn the classes; warns if it cannot be tested on some.

    Args:
      place: where the images are, for messages.
      class_names: the names, in the order of the labels.
      labels: those of each split. Without ``train``, nothing will be learned.
      least: how many training images a class must have.

    Raises:
      UserError: there are fewer than two classes, two of one name, or one without a
        name or with too few images.
    """
    if len(class_names) < 2:
        raise UserError(f"{place} has fewer than two classes: {list(class_names)}")
    for name, times in Counter(class_names).items():
        if not name:
            raise UserError(f"{place} has a class without a name")
        if times > 1:
            raise UserError(f"{place} has more than one class called {name!r}")
    for split, its_labels in labels.items():
        count = np.bincount(its_labels, minlength=len(class_names))
        needed = least if split == "train" else 1
        if not (count < needed).any():
            continue
        lacking = _listed(class_names, count < needed)
        if split == "train":
            raise UserError(
                f"{place} has too few training images of {lacking}: each class needs "
                f"at least {least}"
            )
        _log.warning("%s has no image in %r of %s", place, split, lacking)


def _listed(names: Sequence[str], mask: Bool[np.ndarray, " classes"]) -> str:
    first = names[int(mask.argmax())]
    count = int(mask.sum())
    return f"class {first!r}" if count == 1 else f"{count} classes, first {first!r}"


def warn_of_duplicates(train: Split, evaluation: Split, eval_name: str) -> None:
    """Warns of evaluation images that are training images, too, if images have names.

    Such images make the accuracy look better than it is.
    """
    if train.names is None or evaluation.names is None:
        return
    index_of = {_digest(image): index for index, image in enumerate(train.images)}
    pairs = [
        (index, index_of[digest])
        for index, digest in enumerate(map(_digest, evaluation.images))
        if digest in index_of
    ]
    if pairs:
        first, same = evaluation.names[pairs[0][0]], train.names[pairs[0][1]]
        _log.warning(
            "%d of the %d images of %s are training images, too, so the accuracy looks "
            "better than it is: first %r, the same pixels as %r",
            *(len(pairs), len(evaluation.images), eval_name, str(first), str(same)),
        )


def _digest(image: UInt8[np.ndarray, "h w c"]) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest()
