"""Pictures as PNG, by matplotlib, and text from data, configs and paths in them."""

import io
import textwrap
import warnings
from typing import Any

import numpy as np
from jaxtyping import UInt8

from jax_resnet.runtime.text import printable


def new_figure(width: float, height: float, *, dpi: int, **settings: Any) -> Any:
    """Returns an empty figure of a size in inches."""
    from matplotlib.figure import Figure  # importing it takes a second

    # Characters that its font lacks are shown as boxes. The filter stays, because
    # ``catch_warnings`` is not for threads.
    for message in ("Glyph .* missing", "Matplotlib currently does not support"):
        warnings.filterwarnings("ignore", message)
    return Figure(figsize=(width, height), dpi=dpi, **settings)


def to_png(figure: Any) -> bytes:
    """Returns a figure as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    picture = io.BytesIO()
    FigureCanvasAgg(figure).print_png(picture)
    return picture.getvalue()


def caption(text: str, width: int, lines: int = 1) -> str:
    """Returns a text for a figure, cut where it is longer than so many lines.

    The width is in characters. Nothing in it is mathematics to matplotlib.
    """
    shown = textwrap.wrap(printable(text), width)
    if len(shown) > lines:
        shown[lines - 1 :] = [shown[lines - 1][: width - 1] + "…"]
    return "\n".join(shown).replace("$", r"\$")


def visible_channels(image: UInt8[np.ndarray, "h w c"]) -> UInt8[np.ndarray, "h w 3"]:
    """Returns an image to show: of one or two channels the first, else three."""
    channels = [0, 1, 2] if image.shape[-1] >= 3 else [0, 0, 0]
    return image[..., channels]
