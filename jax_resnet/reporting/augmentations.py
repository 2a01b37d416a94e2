"""``augmentations.png``: training images as stored and as the network sees them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8

from jax_resnet.reporting.figures import (
    caption,
    new_figure,
    to_png,
    visible_channels,
)

# Lengths in pixels of the picture. An image of 32 x 32 is shown at twice its size.
_SIDE, _GAP, _HEADER = 64, 4, 28
_LETTER = 7  # width, at most as a rule
_FONT_SIZE = 8  # points


@dataclass(frozen=True)
class ImageViews:
    """A training image, and what the network sees of it."""

    label: str  # name of its class
    stored: UInt8[np.ndarray, "h w c"]
    seen: Sequence[UInt8[np.ndarray, "h2 w2 c"]]
    # for each of ``seen``, the weight of the label where images are mixed; else empty
    shares: Sequence[float] = ()


def draw_augmentations(rows: Sequence[ImageViews]) -> bytes:
    """Returns a PNG with a row for each image, of which there is at least one.

    Images of one channel are grey; of more than three, the first three are shown.
    """
    first, cell = rows[0], _SIDE + _GAP
    names = [caption(row.label, 22, lines=3) for row in rows]
    longest = max(len(line) for name in names for line in name.splitlines() or [""])
    stored = 4 * _GAP + _LETTER * longest  # left side of the images as stored
    left = stored + cell + 3 * _GAP  # left side of what the network sees
    width, height = left + len(first.seen) * cell, _HEADER + len(rows) * cell
    figure = new_figure(width / 100, height / 100, dpi=100)
    # Units are pixels of the picture, so that no pixel of an image is blurred.
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    axes.axis("off")
    seen = "as the network sees it, {} x {} pixels".format(*first.seen[0].shape[:2])
    if first.shares:
        seen += " (weight of the row's class)"
    _write(axes, stored + _SIDE, _HEADER / 2, "as stored", ha="right")
    _write(axes, left, _HEADER / 2, seen, ha="left")
    for index, row in enumerate(rows):
        top = _HEADER + index * cell
        _write(axes, stored - 2 * _GAP, top + _SIDE / 2, names[index], ha="right")
        _show(axes, row.stored, stored, top)
        for number, image in enumerate(row.seen):
            _show(axes, image, left + number * cell, top)
        for number, share in enumerate(row.shares):
            place = left + number * cell + 3, top + _SIDE - 8
            box = {"facecolor": "w", "edgecolor": "none", "alpha": 0.7, "pad": 1}
            _write(axes, *place, f"{100 * share:.0f} %", ha="left", bbox=box)
    # Images set the limits of their axes.
    axes.set(xlim=(0, width), ylim=(height, 0), aspect="auto")
    return to_png(figure)


def _show(axes: Any, image: UInt8[np.ndarray, "h w c"], left: int, top: int) -> None:
    """Shows an image in the middle of its cell."""
    height, width, _ = image.shape
    scale = _SIDE / max(height, width)
    x, y = (left + (_SIDE - scale * width) / 2, top + (_SIDE - scale * height) / 2)
    extent = (x, x + scale * width, y + scale * height, y)
    smoothing = "nearest" if scale >= 1 else "auto"
    axes.imshow(visible_channels(image), extent=extent, interpolation=smoothing)


def _write(axes: Any, x: int | float, y: int | float, text: str, **style: Any) -> None:
    style = {"va": "center", "fontsize": _FONT_SIZE, **style}
    axes.text(x, y, text, **style)
