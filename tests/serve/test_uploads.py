"""Odd uploads are read correctly, hostile ones are refused with a sentence."""

import io
import struct
import zlib

import numpy as np
import pytest
import uploads
from PIL import Image
from uploads import UnusableImageError, from_data_url

from jax_resnet.data import image_file

QUADRANTS = np.zeros((40, 60, 3), np.uint8)
QUADRANTS[:20, :30] = 255, 0, 0
QUADRANTS[:20, 30:] = 0, 255, 0
QUADRANTS[20:, :30] = 0, 0, 255


def read(source, shape=(40, 60, 3), fit="crop"):
    return uploads.read(source, shape, fit, border=(128,) * shape[-1])


def encoded(image, kind="PNG", **settings):
    contents = io.BytesIO()
    image.save(contents, kind, **settings)
    return contents.getvalue()


def colours(pixels):
    """The middles of three quadrants."""
    h, w, _ = pixels.shape
    return pixels[[h // 4, h // 4, 3 * h // 4], [w // 4, 3 * w // 4, w // 4]]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "AVIF"])
def test_formats(kind):
    found = colours(read(encoded(Image.fromarray(QUADRANTS), kind)))
    assert np.abs(found - 255.0 * np.eye(3)).max() < 30


def test_an_exact_fit_of_a_file_is_left_alone(tmp_path):
    path = tmp_path / "x.png"
    path.write_bytes(encoded(Image.fromarray(QUADRANTS)))
    for fit in ("crop", "pad"):
        np.testing.assert_array_equal(read(path, fit=fit), QUADRANTS)


@pytest.mark.parametrize("orientation", [1, 2, 6])
def test_rotation_by_exif(orientation):
    # The stored image is turned the other way.
    stored = {1: QUADRANTS, 2: QUADRANTS[:, ::-1], 6: np.rot90(QUADRANTS)}
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(np.ascontiguousarray(stored[orientation]))
    np.testing.assert_array_equal(read(encoded(image, exif=exif)), QUADRANTS)


def test_odd_pixels():
    grey = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    found = read(encoded(Image.fromarray(grey)), (8, 8, 3))
    np.testing.assert_array_equal(found[..., 0], grey >> 8)
    cmyk = encoded(Image.fromarray(QUADRANTS).convert("CMYK"), "JPEG")
    assert np.abs(colours(read(cmyk)) - 255.0 * np.eye(3)).max() < 40
    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    assert read(encoded(clear)).min() == 255
    palette = Image.fromarray(np.zeros((4, 4), np.uint8)).convert("P")
    assert read(encoded(palette, transparency=0)).min() == 255
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    animation = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert (read(animation) == [255, 0, 0]).all()
    assert read(encoded(frames[0]), (8, 8, 1)).shape == (8, 8, 1)
    for fit in ("crop", "pad"):
        assert (read(encoded(frames[0]), (8, 8, 4), fit) == [255, 0, 0, 255]).all()


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_pixels_of_32_bits_are_refused(dtype):
    contents = encoded(Image.fromarray(np.full((4, 4), 1, dtype)), "TIFF")
    with pytest.raises(image_file.UnreadableImageError, match="of no known range"):
        image_file.read_image(contents, (4, 4, 1))


def make_png(width, height):
    def chunk(kind, body):
        checksum = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + chunk(b"IEND", b"")


HUGE_PNG = make_png(13_000, 13_000)
NOISE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
GOOD_PNG = encoded(Image.fromarray(NOISE))
BAD_CRC = bytearray(GOOD_PNG)
BAD_CRC[60] ^= 0xFF
UNREADABLE = {
    "a PNG cut off": GOOD_PNG[: len(GOOD_PNG) // 2],
    "a PNG with a wrong checksum": bytes(BAD_CRC),
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_unreadable_files_get_a_sentence(name):
    with pytest.raises(UnusableImageError, match=r"^This is not an image .* AVIF\.$"):
        read(UNREADABLE[name])


@pytest.mark.filterwarnings("ignore")
def test_a_decompression_bomb_is_not_decoded(monkeypatch):
    monkeypatch.setattr(image_file, "_load", None)
    with pytest.raises(UnusableImageError, match="more than 50 million pixels"):
        read(HUGE_PNG)


def test_data_urls():
    assert from_data_url("data:image/png;base64,aGVsbG8=") == b"hello"
    for bad in ("data:image/png,xx", "data:image/png;base64,%%%", "x"):
        with pytest.raises(UnusableImageError, match="base64"):
            from_data_url(bad)


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (640, 480)])
@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_any_size_fits(size, fit):
    found = read(encoded(Image.new("RGB", size, "red")), (32, 32, 3), fit)
    assert (found[15:17, 15:17] == [255, 0, 0]).all(axis=-1).any()


def test_cropping_takes_the_middle_and_padding_the_whole():
    wide = np.zeros((32, 96, 3), np.uint8)
    wide[:, 32:64] = 255
    cropped = read(encoded(Image.fromarray(wide)), (32, 32, 3))
    assert cropped[:, 2:-2].min() == 255
    white = encoded(Image.new("RGB", (40, 10), "white"))
    padded = read(white, (32, 32, 3), "pad")
    np.testing.assert_array_equal(padded[12:20], np.full((8, 32, 3), 255))
    np.testing.assert_array_equal(padded[:12], np.full((12, 32, 3), 128))
    np.testing.assert_array_equal(padded[20:], np.full((12, 32, 3), 128))
