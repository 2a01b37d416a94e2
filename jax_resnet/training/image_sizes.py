"""Progressive resizing: early epochs train on smaller images, at less cost.

Howard, "Now anyone can train Imagenet in 18 minutes"
(https://www.fast.ai/posts/2018-08-10-fastai-diu-imagenet.html); Touvron et al. 2019,
"Fixing the train-test resolution discrepancy" (https://arxiv.org/abs/1906.06423), on
why the last epochs should train at the size of the evaluation.
"""

from collections.abc import Sequence
from typing import Any

from jax_resnet.runtime.errors import UserError


def sizes_by_epoch(
    stages: Sequence[Any], epochs: int, image_shape: tuple[int, int, int]
) -> list[int | None]:
    """Returns the side of the training images in each epoch, in pixels.

    The stages are pairs ``(epoch, size)``: images have this size once so many epochs
    are complete. Without stages they keep the data set's size, and all are None. Raises
    UserError if the stages are no pairs of integers, the epochs do not begin at 0 and
    grow, or the sizes do not grow, are no multiples of 4 or exceed the image.
    """
    for stage in stages:
        is_pair = isinstance(stage, tuple | list) and len(stage) == 2
        if not is_pair or any(type(number) is not int for number in stage):
            raise _error(f"be pairs such as ((0, 24), (60, 32)), not {stage!r}")
    firsts, sizes = ([stage[i] for stage in stages] for i in (0, 1))
    if firsts and firsts[0] != 0:
        raise _error(f"begin at epoch 0, not {firsts[0]}")
    for values, kind in ((firsts, "epochs"), (sizes, "sizes")):
        if sorted(set(values)) != values:
            raise _error(f"have {kind} that grow, not {values}")
    if any(size <= 0 or size % 4 for size in sizes):  # the network halves it twice
        raise _error(f"have sizes that are multiples of 4, not {sizes}")
    height, width, _ = image_shape
    if sizes and (height != width or sizes[-1] > height):
        raise _error(f"fit into square images, and these are {height}x{width}")
    return [
        next((size for first, size in reversed(stages) if first <= epoch), None)
        for epoch in range(epochs)
    ]


def describe(stages: Sequence[Any]) -> str:
    """Describes the sizes for people; "" if there are none."""
    return ", ".join(f"{size} from epoch {first + 1} on" for first, size in stages)


def _error(must: str) -> UserError:
    return UserError(f"train.image_sizes must {must}")
