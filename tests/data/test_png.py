import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from jax_resnet.data import png

FILTERS = {"none": 0, "sub": 1, "up": 2, "average": 3, "paeth": 4}


def encode(image: np.ndarray, filters: np.ndarray, *, parts: int = 1) -> bytes:
    """PNG with a filter of one's choice for each row, byte by byte as specified."""
    height, width, channels = image.shape
    rows = b""
    above = [0] * (width * channels)
    for y in range(height):
        row = image[y].ravel().tolist()
        rows += bytes([filters[y]])
        for i, value in enumerate(row):
            a = row[i - channels] if i >= channels else 0
            b = above[i]
            c = above[i - channels] if i >= channels else 0
            p = a + b - c
            distances = [abs(p - a), abs(p - b), abs(p - c)]
            paeth = [a, b, c][distances.index(min(distances))]
            predicted = [0, a, b, (a + b) // 2, paeth][filters[y]]
            rows += bytes([(value - predicted) % 256])
        above = row
    data = zlib.compress(rows)
    step = -(-len(data) // parts)
    color = {1: 0, 3: 2, 4: 6}[channels]
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, color, 0, 0, 0))]
    chunks += [(b"tEXt", b"Comment\0made by a test")]
    chunks += [(b"IDAT", data[i : i + step]) for i in range(0, len(data), step)]
    chunks += [(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body))
        + kind
        + body
        + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


def save(image: np.ndarray | Image.Image, kind: str = "png", **options) -> bytes:
    buffer = io.BytesIO()
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("filters", [*FILTERS, "mixed"])
def test_every_filter_is_undone(filters, channels):
    rng = np.random.default_rng(0)
    shape = (7, 5, channels)
    # Few values, so that Paeth's ties occur.
    images = rng.choice(np.uint8([0, 1, 2, 127, 128, 254, 255]), (20, *shape))
    kinds = rng.integers(0, 5, (20, 7)) if filters == "mixed" else None
    encoded = [
        encode(image, np.full(7, FILTERS[filters]) if kinds is None else kinds[i])
        for i, image in enumerate(images)
    ]
    np.testing.assert_array_equal(png.decode(encoded, shape), images)
    # The encoder above is right if Pillow reads it.
    with Image.open(io.BytesIO(encoded[3])) as image:
        np.testing.assert_array_equal(np.asarray(image).reshape(shape), images[3])


def test_pixel_data_in_several_chunks():
    image = np.random.default_rng(0).integers(0, 256, (7, 5, 3), dtype=np.uint8)
    encoded = encode(image, np.arange(7) % 5, parts=4)
    np.testing.assert_array_equal(png.decode([encoded], (7, 5, 3))[0], image)


def test_agrees_with_pillow_on_smooth_images():
    y, x = np.mgrid[:32, :32]
    images = [
        np.stack([y * k, x * 3 + k, (x * y) // (k + 1)], -1).astype(np.uint8)
        for k in range(9)
    ]
    decoded = png.decode([save(image) for image in images], (32, 32, 3))
    np.testing.assert_array_equal(decoded, images)


def test_other_kinds_go_to_pillow():
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (8, 8), dtype=np.uint8)
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
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    good = save(image)
    rows = zlib.compress(b"\x07" * 8 * 25)
    unknown_filter = good[:33] + struct.pack(">I", len(rows)) + b"IDAT" + rows
    unknown_filter += b"\0\0\0\0" + good[-12:]
    for bad in (
        good[:-20],
        good[:50],
        good[:20],
        b"",
        good[:60] + bytes([good[60] ^ 1]) + good[61:],
        unknown_filter,
    ):
        with pytest.raises(ValueError):
            png.decode([good, bad], (8, 8, 3))
    with pytest.raises(ValueError):
        png.size(b"not an image")
