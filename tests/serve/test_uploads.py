"""Uploads: odd ones are read right, hostile ones get a sentence."""

import base64
import io
import struct
import zlib

import numpy as np
import pytest
import uploads
from PIL import Image
from uploads import UnusableImageError, fit, from_data_url

QUADRANTS = np.zeros((40, 60, 3), np.uint8)
QUADRANTS[:20, :30] = 255, 0, 0
QUADRANTS[:20, 30:] = 0, 255, 0
QUADRANTS[20:, :30] = 0, 0, 255


def read(source):
    return uploads.read(source, lambda image: image)


def encoded(image, kind="PNG", **settings):
    contents = io.BytesIO()
    image.save(contents, kind, **settings)
    return contents.getvalue()


def colours(image):
    """The middles of the quadrants."""
    pixels = np.asarray(image)
    assert pixels.ndim == 3
    h, w, _ = pixels.shape
    return pixels[[h // 4, h // 4, 3 * h // 4], [w // 4, 3 * w // 4, w // 4]]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_formats(kind):
    found = colours(read(encoded(Image.fromarray(QUADRANTS), kind)))
    assert np.abs(found - 255.0 * np.eye(3)).max() < 30


def test_a_file(tmp_path):
    path = tmp_path / "x.png"
    path.write_bytes(encoded(Image.fromarray(QUADRANTS)))
    np.testing.assert_array_equal(read(path), QUADRANTS)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_rotated_by_exif(orientation):
    # How a viewer that obeys the tag is undone, by its definition.
    undo = {
        **{1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1]},
        **{4: lambda a: a[::-1], 5: lambda a: a.swapaxes(0, 1)},
        **{6: lambda a: np.rot90(a), 7: lambda a: a[::-1, ::-1].swapaxes(0, 1)},
        **{8: lambda a: np.rot90(a, -1)},
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(undo[orientation](QUADRANTS)))
    found = read(encoded(stored, exif=exif))
    np.testing.assert_array_equal(found, QUADRANTS)


def test_16_bit_grey():
    values = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    found = np.asarray(read(encoded(Image.fromarray(values))))
    np.testing.assert_array_equal(found[..., 0], values >> 8)


def test_cmyk():
    found = colours(read(encoded(Image.fromarray(QUADRANTS).convert("CMYK"), "JPEG")))
    assert np.abs(found - 255.0 * np.eye(3)).max() < 40


def test_transparency_is_white():
    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    assert np.asarray(read(encoded(clear))).min() == 255
    palette = Image.fromarray(np.zeros((4, 4), np.uint8)).convert("P")
    assert np.asarray(read(encoded(palette, transparency=0))).min() == 255


@pytest.mark.parametrize("kind", ["GIF", "WEBP"])
def test_animations_show_their_first_frame(kind):
    frames = [Image.new("RGB", (8, 8), c) for c in ("red", "blue")]
    contents = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    assert np.abs(np.asarray(read(contents)) - [[[255.0, 0, 0]]]).max() < 10


def test_a_large_jpeg_is_read_small():
    image = read(encoded(Image.new("RGB", (6000, 4000), "red"), "JPEG"))
    assert max(image.size) < 1600


def png(width, height, rows):
    def chunk(kind, body):
        checksum = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


NOISE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
GOOD_PNG = encoded(Image.fromarray(NOISE))
GOOD_JPEG = encoded(Image.fromarray(NOISE), "JPEG")
BAD_CRC = bytearray(GOOD_PNG)
BAD_CRC[60] ^= 0xFF
UNREADABLE = {
    "empty": b"",
    "text": b"hello\n",
    "HTML": b"<!doctype html><script>alert(1)</script>",
    "SVG": b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
    "a PNG cut off": GOOD_PNG[: len(GOOD_PNG) // 2],
    "a JPEG cut off": GOOD_JPEG[: len(GOOD_JPEG) // 2],
    "a PNG with a wrong checksum": bytes(BAD_CRC),
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    "a PDF": b"%PDF-1.4\n",
    "a header alone": b"\x89PNG\r\n\x1a\n",
    "random bytes": np.random.default_rng(1).bytes(5000),
    "a PNG without pixels": png(0, 0, b""),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_rubbish_gets_a_sentence(name):
    with pytest.raises(UnusableImageError, match=r"^This is not an image .* AVIF\.$"):
        read(UNREADABLE[name])


def test_a_bomb_is_not_unpacked(monkeypatch):
    bomb = png(13_000, 13_000, b"")
    monkeypatch.setattr(uploads, "_decoded", None)
    with pytest.raises(UnusableImageError, match="more than 50 million pixels"):
        read(bomb)


def test_data_urls():
    url = "data:image/png;base64," + base64.b64encode(GOOD_PNG).decode()
    assert from_data_url(url) == GOOD_PNG
    for bad in ("data:image/png,xx", "data:image/png;base64,%%%", "data:", "x"):
        with pytest.raises(UnusableImageError, match="base64"):
            from_data_url(bad)


GREY = b"\x80\x80\x80"


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (32, 32), (640, 480)])
@pytest.mark.parametrize("how", ["crop", "pad"])
def test_any_size_fits(size, how):
    seen = fit(Image.new("RGB", size, "red"), (32, 32, 3), how, border=GREY)
    assert seen.shape == (32, 32, 3)
    assert seen.dtype == np.uint8
    assert (seen[15:17, 15:17] == [255, 0, 0]).all(axis=-1).any()


def test_what_fits_is_left_alone():
    pixels = NOISE[:32, :32]
    for how in ("crop", "pad"):
        seen = fit(Image.fromarray(pixels), (32, 32, 3), how, border=GREY)
        np.testing.assert_array_equal(seen, pixels)


def test_cropping_takes_the_middle():
    wide = np.zeros((32, 96, 3), np.uint8)
    wide[:, 32:64] = 255
    seen = fit(Image.fromarray(wide), (32, 32, 3), "crop", border=GREY)
    assert seen[:, 2:-2].min() == 255


def test_padding_takes_all():
    wide = np.full((10, 40, 3), 255, np.uint8)
    seen = fit(Image.fromarray(wide), (32, 32, 3), "pad", border=GREY)
    np.testing.assert_array_equal(seen[:12], np.full((12, 32, 3), 128))
    np.testing.assert_array_equal(seen[12:20], np.full((8, 32, 3), 255))
    np.testing.assert_array_equal(seen[20:], np.full((12, 32, 3), 128))


def test_one_channel():
    seen = fit(Image.fromarray(QUADRANTS), (8, 8, 1), "crop", border=b"\0")
    assert seen.shape == (8, 8, 1)
