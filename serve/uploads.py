"""From an uploaded file to the input of the model."""

import base64
import binascii
import contextlib
import io
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

Fit = Literal["crop", "pad"]

# The formats of browsers and cameras. Some of Pillow's other readers start programs.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "AVIF", "MPO")
MAX_PIXELS = 50_000_000  # 200 MB for Pillow
# Larger images are decoded one at a time, always in the same thread, because the
# allocator keeps the memory of every thread that has ever decoded one.
_LARGE = 4_000_000  # pixels
_large_images = ThreadPoolExecutor(1, "large image")


class UnusableImageError(Exception):
    """An upload that is no image; the message is for the person who sent it."""


def read(
    source: Path | bytes,
    shape: tuple[int, int, int],
    fit: Fit,
    *,
    border: tuple[int, ...],
) -> UInt8[np.ndarray, "h w c"]:
    """Decodes an upload, a file or its contents, and scales it.

    The image is turned upright by its EXIF orientation. Of an animation the first frame
    is read. Transparent parts become white. ``fit`` is ``"crop"``, the largest part in
    the middle, or ``"pad"``, the whole image with a border of this colour. Raises
    :class:`UnusableImageError` if it is not an undamaged image of one of
    :data:`FORMATS`, or has more than :data:`MAX_PIXELS` pixels.
    """
    with _readable_errors():
        image = Image.open(
            io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS
        )
        pixels = image.width * image.height
        if pixels > MAX_PIXELS:
            raise Image.DecompressionBombError

    def decode() -> np.ndarray:
        with _readable_errors():
            decoded = _decode(image)
        return _resize(decoded, shape, fit, border)

    return _large_images.submit(decode).result() if pixels > _LARGE else decode()


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


@contextlib.contextmanager
def _readable_errors() -> Iterator[None]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about metadata that do not matter
            yield
    except (Image.DecompressionBombError, MemoryError) as error:
        raise UnusableImageError(
            f"The image has more than {MAX_PIXELS // 1_000_000} million pixels. "
            "Send a smaller one."
        ) from error
    # A malicious file can make a decoder raise anything.
    except Exception as error:
        raise UnusableImageError(
            "This is not an image that can be read, or it is damaged. "
            "Send a PNG, JPEG, WebP, GIF, BMP or AVIF."
        ) from error


def _decode(image: Image.Image) -> Image.Image:
    """Returns an upright RGB image."""
    image.draft("RGB", (512, 512))  # a large JPEG is decoded at a lower resolution
    image.load()
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I"):  # 16 bits, which Pillow would clip to 8
        grey = np.clip(np.asarray(image), 0, 65535) >> 8
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        if image.mode != "RGBA":
            image = image.convert("RGBA")
        background = Image.new("RGB", image.size, "white")
        background.paste(image, mask=image)
        return background
    return image.convert("RGB")


def _resize(
    image: Image.Image, shape: tuple[int, int, int], fit: Fit, border: tuple[int, ...]
) -> np.ndarray:
    height, width, channels = shape
    if channels == 1:
        image = image.convert("L")
    if fit == "crop":
        resized = ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS)
    else:
        scale = max(image.width / width, image.height / height)
        inner = max(1, round(image.width / scale)), max(1, round(image.height / scale))
        resized = Image.new(image.mode, (width, height), border)
        resized.paste(
            image.resize(inner, Image.Resampling.LANCZOS, reducing_gap=4.0),
            ((width - inner[0]) // 2, (height - inner[1]) // 2),
        )
    return np.asarray(resized, np.uint8).reshape(shape)
