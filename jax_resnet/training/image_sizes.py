"""Progressive resizing: early epochs train on smaller images, at less cost.

Howard, "Now anyone can train Imagenet in 18 minutes"
(https://www.fast.ai/posts/2018-08-10-fastai-diu-imagenet.html); Touvron et al. 2019,
"Fixing the train-test resolution discrepancy" (https://arxiv.org/abs/1906.06423), on
why the last epochs should train at the size of the evaluation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jax_resnet.runtime.errors import UserError


@dataclass(frozen=True)
class ImageSizes:
    """The size of the training images in each epoch.

    Raises UserError if these are no pairs of integers, the epochs do not begin
    at 0 and grow, or the sizes do not grow or are no multiples of 4.
    """

    # pairs ``(epoch, size)``: once this many epochs are complete, images have this many
    # pixels on each side. Empty: they keep the data set's size.
    stages: Sequence[Any] = ()

    def __post_init__(self) -> None:
        for stage in self.stages:
            is_pair = isinstance(stage, tuple | list) and len(stage) == 2
            if not is_pair or any(type(number) is not int for number in stage):
                raise _refused(f"be pairs such as ((0, 24), (60, 32)), not {stage!r}")
        epochs, sizes = ([stage[i] for stage in self.stages] for i in (0, 1))
        if epochs and epochs[0] != 0:
            raise _refused(f"begin at epoch 0, not {epochs[0]}")
        for values, kind in ((epochs, "epochs"), (sizes, "sizes")):
            if sorted(set(values)) != values:
                raise _refused(f"have {kind} that grow, not {values}")
        if any(size <= 0 or size % 4 for size in sizes):  # the network halves it twice
            raise _refused(f"have sizes that are multiples of 4, not {sizes}")

    def check_fits(self, image_shape: tuple[int, int, int]) -> None:
        """Raises UserError if a size exceeds the image, or that is not square."""
        height, width, _ = image_shape
        if self.stages and (height != width or self.stages[-1][1] > height):
            raise _refused(f"fit into square images, and these are {height}x{width}")

    def at(self, epoch: int) -> int | None:
        """Returns the size in an epoch, counted from 0; None for the data set's own."""
        return next((s for e, s in reversed(self.stages) if e <= epoch), None)

    def describe(self, epochs: int, full_size: int) -> str:
        """Describes the sizes and their cost in a run; "" if there are none."""
        if not self.stages:
            return ""
        sizes = (f"{size} from epoch {epoch + 1} on" for epoch, size in self.stages)
        # Convolutions, which do nearly all multiply-adds, cost in proportion to area.
        area = sum((self.at(epoch) or full_size) ** 2 for epoch in range(epochs))
        cost = f"{area / (epochs * full_size**2):.0%} of the multiply-adds"
        return f"{', '.join(sizes)}: {cost} at {full_size}"


def _refused(must: str) -> UserError:
    return UserError(f"train.image_sizes must {must}")
