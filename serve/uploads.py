"""From the bytes that people send to the image that the model sees."""

import base64
import binascii
import contextlib
import io
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

Fit = Literal["crop", "pad"]
T = TypeVar("T")

# What browsers and cameras make. Pillow's other readers are for formats that nobody
# sends, and some of them start programs.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "AVIF", "MPO")
MAX_PIXELS = 50_000_000  # 200 MB for Pillow
_ORIENTATION = 0x0112  # of EXIF
# Those with more pixels than this take turns, in one thread: each thread keeps for
# itself what memory it has ever had.
_LARGE = 4_000_000
_one_by_one = ThreadPoolExecutor(1, "large image")


class UnusableImageError(Exception):
    """An upload that is no image for us; its text is for the person who sent it."""


def read(source: Path | bytes, use: Callable[[Image.Image], T]) -> T:
    """Decodes an upload: upright, its first frame, RGB, on white if transparent.

    Args:
        source: a file, or the contents of one.
        use: what becomes of the image. Large ones are decoded and used one after the
            other, so that only one at a time takes memory.

    Raises:
        UnusableImageError: if it is not a whole image of one of :data:`FORMATS`, or
            is too large.
    """
    opened = io.BytesIO(source) if isinstance(source, bytes) else source
    with _failures_in_words():
        image = Image.open(opened, formats=FORMATS)
        pixels = image.width * image.height
        if pixels > MAX_PIXELS:
            raise Image.DecompressionBombError
    if pixels > _LARGE:
        return _one_by_one.submit(_decode_and_use, image, use).result()
    return _decode_and_use(image, use)


def _decode_and_use(image: Image.Image, use: Callable[[Image.Image], T]) -> T:
    with _failures_in_words():
        image = _decoded(image)
    return use(image)


@contextlib.contextmanager
def _failures_in_words() -> Iterator[None]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of metadata that does not matter
            yield
    except (Image.DecompressionBombError, MemoryError) as error:
        raise UnusableImageError(
            f"The image has more than {MAX_PIXELS // 1_000_000} million pixels. "
            "Send a smaller one."
        ) from error
    # A file made to break decoders makes them raise anything.
    except Exception as error:
        raise UnusableImageError(
            "This is not an image that can be read, or it is damaged. "
            "Send a PNG, JPEG, WebP, GIF, BMP or AVIF."
        ) from error


def from_data_url(url: str) -> bytes:
    """The contents of a ``data:`` URL in base64.

    Raises:
        UnusableImageError: if it is none.
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


def fit(
    image: Image.Image, shape: tuple[int, int, int], how: Fit, *, border: bytes
) -> UInt8[np.ndarray, "h w c"]:
    """Scales an image of any aspect ratio to the model's shape.

    Args:
        image: RGB.
        shape: height, width, channels (1 or 3) of the result.
        how: ``"crop"`` takes the largest part in the middle, ``"pad"`` takes all.
        border: a byte for each channel, around what is padded.
    """
    height, width, channels = shape
    if channels == 1:
        image = image.convert("L")
    if how == "crop":
        scale = min(image.width / width, image.height / height)
        crop_width = max(1.0, scale * width)
        crop_height = max(1.0, scale * height)
        left = (image.width - crop_width) / 2
        top = (image.height - crop_height) / 2
        box = (left, top, left + crop_width, top + crop_height)
        return _as_array(_resize(image, (width, height), box), shape)
    scale = max(image.width / width, image.height / height)
    inner = max(1, round(image.width / scale)), max(1, round(image.height / scale))
    canvas = Image.new(image.mode, (width, height), tuple(border))
    small = _resize(image, inner, (0, 0, *image.size))
    canvas.paste(small, ((width - inner[0]) // 2, (height - inner[1]) // 2))
    return _as_array(canvas, shape)


def _resize(
    image: Image.Image, size: tuple[int, int], box: tuple[float, float, float, float]
) -> Image.Image:
    return image.resize(size, Image.Resampling.LANCZOS, box=box, reducing_gap=4.0)


def _as_array(image: Image.Image, shape: tuple[int, int, int]) -> np.ndarray:
    return np.asarray(image, np.uint8).reshape(shape)


def _decoded(image: Image.Image) -> Image.Image:
    # JPEG can leave out detail that is scaled away in any case.
    image.draft("RGB", (512, 512))
    image.load()
    if image.getexif().get(_ORIENTATION, 1) in range(2, 9):
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        # 16 bits in a pixel, which Pillow would clip to 8.
        grey = np.clip(np.asarray(image), 0, 65535) >> 8
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        if image.mode != "RGBA":
            image = image.convert("RGBA")
        background = Image.new("RGB", image.size, "white")
        background.paste(image, mask=image)
        return background
    return image.convert("RGB")
