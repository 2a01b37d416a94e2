"""Progressive resizing: early epochs train on smaller images, at less cost.

Howard, "Now anyone can train Imagenet in 18 minutes"
(https://www.fast.ai/posts/2018-08-10-fastai-diu-imagenet.html); Touvron et al. 2019,
"Fixing the train-test resolution discrepancy" (https://arxiv.org/abs/1906.06423), on
why the last epochs should see the size of the evaluation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jax_resnet.runtime.errors import UserError

_UNIT = 4  # the network halves the size twice


@dataclass(frozen=True)
class ImageSizes:
    """The size of the training images in each epoch.

    Attributes:
        stages: pairs ``(epoch, size)``: from this many completed epochs on, images
            have this many pixels on each side. Empty: they keep the data set's size.

    Raises:
        UserError: if the epochs do not begin at 0 or do not grow, or if the sizes do
            not grow or are no multiples of 4.
    """

    stages: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        epochs, sizes = ([stage[i] for stage in self.stages] for i in (0, 1))
        if epochs[:1] not in ([], [0]):
            raise _refused(f"begin at epoch 0, not {epochs[0]}")
        for values, what in ((epochs, "epochs"), (sizes, "sizes")):
            if sorted(set(values)) != values:
                raise _refused(f"have {what} that grow, not {values}")
        if any(size <= 0 or size % _UNIT for size in sizes):
            raise _refused(f"have sizes that are multiples of {_UNIT}, not {sizes}")

    @classmethod
    def from_config(cls, value: Sequence[Any]) -> "ImageSizes":
        """Reads ``train.image_sizes``.

        Raises:
            UserError: also if it is not a tuple of pairs of whole numbers.
        """
        for stage in value:
            is_pair = isinstance(stage, tuple | list) and len(stage) == 2
            if not is_pair or any(type(number) is not int for number in stage):
                raise _refused(f"be pairs such as ((0, 24), (60, 32)), not {value!r}")
        return cls(tuple((epoch, size) for epoch, size in value))

    def check_fits(self, image_shape: tuple[int, int, int]) -> None:
        """Checks the sizes against the images of a data set.

        Args:
            image_shape: height, width, channels.

        Raises:
            UserError: if a size exceeds the image, or the image is not square.
        """
        height, width, _ = image_shape
        if self.stages and height != width:
            raise _refused(f"be empty for images that are not square ({image_shape})")
        if self.stages and self.stages[-1][1] > height:
            raise _refused(
                f"have no size above that of the images, {height}, and has "
                f"{self.stages[-1][1]}"
            )

    def at(self, epoch: int) -> int | None:
        """The size in an epoch, counted from 0; None is the data set's own."""
        return next((s for e, s in reversed(self.stages) if e <= epoch), None)

    def distinct(self, first_epoch: int, epochs: int) -> list[int | None]:
        """The sizes from an epoch to the last one, each once, in their order."""
        seen = (self.at(epoch) for epoch in range(first_epoch, epochs))
        return list(dict.fromkeys(seen))

    def describe(self, epochs: int, full_size: int) -> str:
        """The sizes of a run for people; "" if there are none."""
        if not self.stages:
            return ""
        sizes = (f"{size} from epoch {epoch + 1} on" for epoch, size in self.stages)
        cost = self.relative_cost(epochs, full_size)
        return f"{', '.join(sizes)}: {cost:.0%} of the multiply-adds at {full_size}"

    def relative_cost(self, epochs: int, full_size: int) -> float:
        """Multiply-adds of a run over those that it would take at full size.

        Convolutions do all but a ten-thousandth of them, in proportion to the area.
        """
        sizes = (self.at(epoch) or full_size for epoch in range(epochs))
        return sum(size**2 for size in sizes) / (epochs * full_size**2)


FULL_SIZE = ImageSizes()


def _refused(must: str) -> UserError:
    return UserError(f"train.image_sizes must {must}")
