"""From an uploaded file to the input of the model."""

import base64
import binascii
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from jax_resnet.data.image_file import (
    Fit,
    TooManyPixelsError,
    UnreadableImageError,
    read_image,
)

# The formats of browsers and cameras: Pillow's other readers are less tried.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "AVIF", "MPO")
MAX_PIXELS = 50_000_000  # 200 MB for Pillow


class UnusableImageError(Exception):
    """An upload that is no image; the message is for the person who sent it."""


def read(
    source: Path | bytes,
    shape: tuple[int, int, int],
    fit: Fit,
    *,
    border: tuple[int, ...],
) -> UInt8[np.ndarray, "h w c"]:
    """Decodes an upload, a file or its contents, as ``read_image`` does.

    Raises :class:`UnusableImageError` if it is not an undamaged image of one of
    :data:`FORMATS`, or has more than :data:`MAX_PIXELS` pixels.
    """
    try:
        return read_image(
            source, shape, fit, border=border, formats=FORMATS, max_pixels=MAX_PIXELS
        )
    except TooManyPixelsError as error:
        raise UnusableImageError(
            f"The image has more than {MAX_PIXELS // 1_000_000} million pixels. "
            "Send a smaller one."
        ) from error
    except UnreadableImageError as error:
        raise UnusableImageError(
            "This is not an image that can be read, or it is damaged. "
            "Send a PNG, JPEG, WebP, GIF, BMP or AVIF."
        ) from error


def from_data_url(url: str) -> bytes:
    """Returns the contents of a ``data:`` URL in base64.

    Raises UnusableImageError if it is not one.
    """
    head, comma, body = url.partition(",")
    try:
        if not comma or not head.endswith(";base64"):
            raise ValueError("not base64")
        return base64.b64decode(body, validate=True)
    except (ValueError, binascii.Error) as error:
        raise UnusableImageError(
            "The data URL is not a base64 one: data:image/png;base64,..."
        ) from error
