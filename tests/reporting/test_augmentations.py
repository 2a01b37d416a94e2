"""The picture of training images, read back."""

import io
import warnings

import numpy as np
import pytest
from PIL import Image

from jax_resnet.reporting.augmentations import ImageViews, draw_augmentations
from jax_resnet.reporting.figures import caption

RNG = np.random.default_rng(0)


def image(height, width, channels=3):
    return RNG.integers(0, 256, (height, width, channels), np.uint8)


def drawn(*rows):
    with Image.open(io.BytesIO(draw_augmentations(rows))) as picture:
        return np.asarray(picture.convert("RGB"))


def contains(picture, panel):
    """Whether the pixels of the panel are somewhere in the picture."""
    windows = np.lib.stride_tricks.sliding_window_view(picture, (*panel.shape[:2], 3))
    candidates = (windows[:, :, 0, 0, 0] == panel[0, 0]).all(-1)
    return any((windows[y, x, 0] == panel).all() for y, x in np.argwhere(candidates))


def test_long_texts_are_cut():
    assert caption("x" * 99, 5) == "xxxx…"
    assert caption("one two three four", 7, lines=2) == "one two\nthree…"
    assert caption("one two", 7) == "one two"
    assert caption("", 7) == ""


@pytest.mark.slow
def test_images_are_shown_pixel_by_pixel():
    stored, seen = image(32, 32), [image(16, 16), image(16, 16)]
    grey, four = image(64, 64, 1), image(32, 64, 4)
    rows = [
        ImageViews("a", stored, seen),
        ImageViews("b", grey, [grey]),
        ImageViews("c", four, [four]),
    ]
    picture = drawn(*rows)
    assert contains(picture, stored.repeat(2, 0).repeat(2, 1))
    for each in seen:
        assert contains(picture, each.repeat(4, 0).repeat(4, 1))
    assert contains(picture, grey.repeat(3, -1))
    assert contains(picture, four[..., :3])
    assert not contains(picture, image(32, 32))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "",
        "$x^$ | <b> & \\frac",
        "a\nb\x00\x07",
        "\ud800",
        "\u718a\u732b",
        "\u05d0",
        "x" * 99,
    ],
)
def test_names_of_any_kind(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        picture = drawn(ImageViews(name, image(8, 8), [image(8, 8)], [0.5]))
    assert picture.shape[0] == 96
    assert picture.shape[1] < 400
