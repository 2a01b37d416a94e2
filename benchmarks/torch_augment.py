"""The reference recipe's augmentations in PyTorch, for a batch on the device.

The peer of ``jax_resnet.augment``: the same distributions, in operations on whole
batches, with one draw of random numbers and one gather for crop, flip and rotation.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

_TRIES = 10  # of random erasing


class Normalize(nn.Module):
    """Maps levels ``[b, h, w, 3]`` to normalised float32 images of that shape."""

    def __init__(self, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("std", torch.tensor(std))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Scales to [0, 1], subtracts the mean, divides by the deviation."""
        return (images.float() / 255 - self.mean) / self.std


class Augment(Normalize):
    """Maps uint8 images ``[b, h, w, 3]`` to augmented, normalised float32 ones.

    Args:
        settings: of each augmentation by name, as ``configs/resnet56.py`` has them.
        mean: per channel, of x/255.
        std: likewise.
    """

    def __init__(
        self,
        settings: Mapping[str, Mapping[str, Any]],
        mean: Sequence[float],
        std: Sequence[float],
    ):
        super().__init__(mean, std)
        self.settings = settings
        amounts = [
            settings["color_jitter"][name]
            for name in ("brightness", "contrast", "saturation")
        ]
        self.register_buffer("amounts", torch.tensor(amounts))
        orders = torch.tensor(list(itertools.permutations(range(3))))
        self.register_buffer("orders", orders)
        self.register_buffer("luma", torch.tensor([0.299, 0.587, 0.114]))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Applies all seven, with draws of its own for every image."""
        b, height, width, _ = images.shape
        draws = torch.rand(b, 13 + 2 * _TRIES, device=images.device)
        crop, flip, turn, jitter, order, erase, corner, centre, tries = draws.split(
            [2, 1, 1, 3, 1, 1, 2, 2, 2 * _TRIES], dim=1
        )
        padding = self.settings["random_crop"]["padding"]
        offsets = (crop * (2 * padding + 1)).long() - padding
        images = crop_flip_rotate(
            images,
            offsets,
            flip[:, 0] < self.settings["random_flip"]["probability"],
            (2 * turn[:, 0] - 1) * self.settings["random_rotation"]["degrees"],
        )
        images = color_jitter(
            images,
            1 + self.amounts * (2 * jitter - 1),
            self.orders[(order[:, 0] * 6).long()],
            self.luma,
        )
        images = super().forward(images)
        limits = (height, width)
        images = _erase(images, *self._rectangle(erase, corner, tries, limits))
        size = self.settings["cutout"]["size"]
        bottom, right = centre[:, :1] * height, centre[:, 1:] * width
        top_left = torch.cat([bottom, right], dim=1).long() - size // 2
        return _erase(images, top_left, torch.full_like(top_left, size))

    def _rectangle(
        self,
        erase: torch.Tensor,
        corner: torch.Tensor,
        tries: torch.Tensor,
        limits: tuple[int, int],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        options = self.settings["random_erasing"]
        (small, large), (low, high) = options["area"], map(math.log, options["aspect"])
        area, aspect = tries.chunk(2, dim=1)
        area = (small + (large - small) * area) * (limits[0] * limits[1])
        aspect = (low + (high - low) * aspect).exp()
        heights, widths = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()
        fits = (heights < limits[0]) & (widths < limits[1])
        first = fits.int().argmax(dim=1, keepdim=True)
        applied = fits.gather(1, first) & (erase < options["probability"])
        height = heights.gather(1, first) * applied
        width = widths.gather(1, first) * applied
        top = corner[:, :1] * (limits[0] - height + 1)
        left = corner[:, 1:] * (limits[1] - width + 1)
        top_left = torch.cat([top, left], dim=1).long()
        return top_left, torch.cat([height, width], dim=1).long()


def crop_flip_rotate(
    images: torch.Tensor,
    offsets: torch.Tensor,
    mirrored: torch.Tensor,
    degrees: torch.Tensor,
) -> torch.Tensor:
    """Crops, then flips, then rotates by nearest neighbour; black outside.

    Args:
        images: ``[b, h, w, c]`` of any dtype.
        offsets: int64 ``[b, 2]``, pixels down and right.
        mirrored: bool ``[b]``.
        degrees: float ``[b]``, counter-clockwise about the centre.
    """
    b, height, width, channels = images.shape
    y = torch.arange(height, device=images.device)[None, :, None] - (height - 1) / 2
    x = torch.arange(width, device=images.device)[None, None, :] - (width - 1) / 2
    sine = torch.deg2rad(degrees).sin()[:, None, None]
    cosine = torch.deg2rad(degrees).cos()[:, None, None]
    row = (sine * x + cosine * y + height / 2).floor().long()
    column = (cosine * x - sine * y + width / 2).floor().long()
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    column = torch.where(mirrored[:, None, None], width - 1 - column, column)
    row = row + offsets[:, 0, None, None]
    column = column + offsets[:, 1, None, None]
    inside &= (row >= 0) & (row < height) & (column >= 0) & (column < width)
    index = torch.where(inside, row * width + column, 0).view(b, -1, 1)
    pixels = images.view(b, -1, channels)
    pixels = pixels.gather(1, index.expand(-1, -1, channels))
    return pixels.view_as(images) * inside[..., None]


def color_jitter(
    images: torch.Tensor,
    factors: torch.Tensor,
    order: torch.Tensor,
    luma: torch.Tensor,
) -> torch.Tensor:
    """Changes brightness, contrast and saturation by factors, in an order per image.

    Args:
        images: levels ``[b, h, w, 3]``.
        factors: float32 ``[b, 3]``.
        order: int64 ``[b, 3]``: 0 brightness, 1 contrast, 2 saturation.
        luma: float32 ``[3]``, the channels' weights in the grey level.
    """
    levels = images.float()
    for which in order.unbind(1):
        grey = (levels * luma).sum(dim=-1, keepdim=True)
        chosen = which[:, None, None, None]
        mean = torch.where(chosen == 1, grey.mean(dim=(1, 2, 3), keepdim=True), 0.0)
        degenerate = torch.where(chosen == 2, grey, mean)
        factor = factors.gather(1, which[:, None])[..., None, None]
        levels = (degenerate + factor * (levels - degenerate)).clamp(0, 255)
    return levels


def _erase(
    images: torch.Tensor, top_left: torch.Tensor, size: torch.Tensor
) -> torch.Tensor:
    _, height, width, _ = images.shape
    row = torch.arange(height, device=images.device)[None, :]
    column = torch.arange(width, device=images.device)[None, :]
    top, left = top_left.split(1, dim=1)
    tall, wide = size.split(1, dim=1)
    rows = (row >= top) & (row < top + tall)
    columns = (column >= left) & (column < left + wide)
    return images * ~(rows[:, :, None] & columns[:, None, :])[..., None]
