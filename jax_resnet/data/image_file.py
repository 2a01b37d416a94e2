"""Reads image files, so that training, ``predict`` and the demo see a picture alike."""

import io
import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from jax_resnet.runtime.errors import UserError

Fit = Literal["crop", "pad"]

# Together they find every format that Pillow reads, the common ones first.
Image.preinit()
Image.init()
# EPS is left out: its reader starts another program.
FORMATS = tuple(name for name in Image.ID if name != "EPS")
SUFFIXES = frozenset(
    suffix for suffix, name in Image.EXTENSION.items() if name in FORMATS
)
MAX_PIXELS = 178_956_970  # 716 MB; Pillow's own limit
# Larger images are decoded one at a time, always in the same thread, because the
# allocator keeps the memory of every thread that has ever decoded one.
_LARGE = 4_000_000  # pixels
_large_images = ThreadPoolExecutor(1, "large image")
MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # Pillow's, by number of channels

# Pillow warns of metadata that do not matter. ``catch_warnings`` is not for threads.
warnings.filterwarnings("ignore", module=r"PIL\.")


class UnreadableImageError(UserError):
    """A file is no image, is damaged, or its format is not allowed."""


class TooManyPixelsError(UnreadableImageError):
    """An image is too large to be decoded."""


def read_image(
    source: str | Path | bytes,
    shape: tuple[int, int, int],
    fit: Fit = "crop",
    *,
    border: int | tuple[int, ...] = 0,
    formats: Sequence[str] = FORMATS,
    max_pixels: int = MAX_PIXELS,
) -> UInt8[np.ndarray, "h w c"]:
    """Decodes an image file, or the contents of one, and scales it.

    The image is turned upright by its EXIF orientation. Of an animation the first frame
    is read. Where the result has 1 or 3 channels, transparent parts become white.

    Args:
      source: the path of a file, or its contents.
      shape: height, width and channels (1, 3 or 4) of the result.
      fit: ``"crop"``, the largest part in the middle, or ``"pad"``, the whole image.
      border: the colour around a padded image, from 0 to 255.
      formats: Pillow's names of the formats that are allowed.
      max_pixels: a larger image is not decoded.

    Raises:
      UnreadableImageError: it cannot be read; the message says why, in one line.
      TooManyPixelsError: it has more than ``max_pixels`` pixels.
      UserError: ``fit`` is another word.
    """
    if fit not in get_args(Fit):
        raise UserError(f"fit must be one of {get_args(Fit)}, not {fit!r}")
    try:
        # Read at once: Pillow's many small reads would each give the GIL away.
        content = source if isinstance(source, bytes) else Path(source).read_bytes()
        with Image.open(io.BytesIO(content), formats=tuple(formats)) as image:
            pixels = image.width * image.height
            if pixels > max_pixels:
                raise Image.DecompressionBombError
            load = partial(_load, image, shape, fit, border)
            return _large_images.submit(load).result() if pixels > _LARGE else load()
    except (Image.DecompressionBombError, MemoryError) as error:
        limit = f"{max_pixels // 1_000_000} million pixels"
        raise TooManyPixelsError(_message(source, f"more than {limit}")) from error
    # A damaged file can make a decoder raise anything.
    except Exception as error:
        raise UnreadableImageError(_message(source, _reason(error))) from error


def _message(source: str | Path | bytes, reason: str) -> str:
    name = "the image" if isinstance(source, bytes) else repr(os.fspath(source))
    return f"{name} cannot be read as an image ({reason})"


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "it has no format that is read here"
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(reason.split())[:100]


def _load(
    image: Image.Image,
    shape: tuple[int, int, int],
    fit: Fit,
    border: int | tuple[int, ...],
) -> np.ndarray:
    height, width, channels = shape
    # A large JPEG is decoded at a lower resolution.
    image.draft("RGB", (max(512, 2 * width), max(512, 2 * height)))
    image.load()
    ImageOps.exif_transpose(image, in_place=True)
    resized = _resize(_convert(image, MODES[channels]), (width, height), fit, border)
    return np.asarray(resized, np.uint8).reshape(shape)


def _convert(image: Image.Image, mode: str) -> Image.Image:
    if image.mode == "F" or (image.mode == "I" and image.format not in ("PNG", "PPM")):
        raise ValueError("its pixels have 32 bits, of no known range: save 8 or 16")
    if image.mode.startswith("I"):  # 16 bits, which Pillow would clip to 8
        grey = np.clip(np.asarray(image), 0, 65535) >> 8
        image = Image.fromarray(grey.astype(np.uint8))
    elif mode != "RGBA" and image.has_transparency_data:
        image = image.convert("RGBA")
        background = Image.new("RGB", image.size, "white")
        background.paste(image, mask=image)
        image = background
    return image if image.mode == mode else image.convert(mode)


def _resize(
    image: Image.Image,
    size: tuple[int, int],
    fit: Fit,
    border: int | tuple[int, ...],
) -> Image.Image:
    if image.size == size:
        return image
    if fit == "crop":
        return ImageOps.fit(image, size, Image.Resampling.LANCZOS)
    scale = max(image.width / size[0], image.height / size[1])
    inner = max(1, round(image.width / scale)), max(1, round(image.height / scale))
    resized = Image.new(image.mode, size, border)
    resized.paste(
        image.resize(inner, Image.Resampling.LANCZOS, reducing_gap=4.0),
        ((size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2),
    )
    return resized
