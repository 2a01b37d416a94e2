import io

import numpy as np
import pytest
from PIL import Image

from jax_resnet.data import png

RNG = np.random.default_rng(0)
COLOR = RNG.integers(0, 256, (6, 7, 5, 3), dtype=np.uint8)


def save(image: np.ndarray | Image.Image, kind: str = "png", **options) -> bytes:
    buffer = io.BytesIO()
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_color_images_come_back():
    encoded = [save(image) for image in COLOR]
    np.testing.assert_array_equal(png.decode(encoded, (7, 5, 3)), COLOR)


def test_grey_images_come_back():
    grey = COLOR[..., 0]
    decoded = png.decode([save(image) for image in grey], (7, 5, 1))
    np.testing.assert_array_equal(decoded[..., 0], grey)


def test_every_kind_that_pillow_reads():
    grey = RNG.integers(0, 256, (8, 8), dtype=np.uint8)
    palette = Image.fromarray(grey).convert("RGB").quantize(16)
    encoded = [save(palette), save(grey), save(grey, "jpeg"), save(grey, "bmp")]
    decoded = png.decode(encoded, (8, 8, 3))
    for one, data in zip(decoded, encoded, strict=True):
        with Image.open(io.BytesIO(data)) as image:
            np.testing.assert_array_equal(one, np.asarray(image.convert("RGB")))


def test_another_shape_is_its_own_error():
    small, large = (save(np.zeros((n, n, 3), np.uint8)) for n in (8, 9))
    assert png.size(large) == (9, 9)
    with pytest.raises(png.ShapeError, match="8x8 and 9x9"):
        png.decode([small, large], (8, 8, 3))


def test_damage_is_an_error():
    good = save(COLOR[0])
    for bad in (good[:-40], good[:50], good[:20], b"", b"not an image"):
        with pytest.raises(ValueError):
            png.decode([good, bad], (7, 5, 3))
    with pytest.raises(ValueError):
        png.size(b"not an image")
