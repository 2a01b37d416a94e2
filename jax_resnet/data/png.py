"""Encoded images to one array, by Pillow."""

import io
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

_MODE = {1: "L", 3: "RGB", 4: "RGBA"}
_PNG = b"\x89PNG\r\n\x1a\n"


class ShapeError(ValueError):
    """An image has another height or width than the others."""


def size(encoded: bytes) -> tuple[int, int]:
    """Returns height and width of an encoded image; ValueError if it is damaged."""
    try:
        with _open(encoded) as image:
            return image.height, image.width
    except (OSError, SyntaxError) as error:  # Pillow's errors for broken files
        raise ValueError(str(error)) from error


def decode(
    encoded: Sequence[bytes], shape: tuple[int, int, int]
) -> UInt8[np.ndarray, "n h w c"]:
    """Decodes images that all have one shape.

    Args:
      encoded: PNG files, or any others that Pillow reads.
      shape: height, width, channels (1, 3 or 4) that each must have.

    Returns:
      The pixels, uint8 [n, h, w, c].

    Raises:
      ShapeError: an image has another height or width.
      ValueError: an image is damaged.
    """
    pixels = b"".join(_pixels(data, shape) for data in encoded)
    return np.frombuffer(pixels, np.uint8).reshape(len(encoded), *shape)


def _open(data: bytes) -> Image.Image:
    # Looking for the format takes Image.open longer than a small image its decoding.
    if data.startswith(_PNG):
        return PngImageFile(io.BytesIO(data))
    return Image.open(io.BytesIO(data))


def _pixels(data: bytes, shape: tuple[int, int, int]) -> bytes:
    height, width, channels = shape
    try:
        image = _open(data)
        if image.mode != _MODE[channels]:
            image = image.convert(_MODE[channels])
        pixels = image.tobytes()
    except (OSError, SyntaxError) as error:
        raise ValueError(str(error)) from error
    if (image.height, image.width) != (height, width):
        found = f"{image.height}x{image.width}"
        raise ShapeError(f"images of {height}x{width} and {found} pixels")
    return pixels
