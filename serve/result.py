"""An answer of the model, as JSON and as the HTML that the page shows."""

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

TOP = 5
_WARM = (255, 90, 0)  # the colour of the activation maps


@dataclass(frozen=True)
class Guess:
    """One of the classes that come first."""

    label: str
    superclass: str | None
    confidence: float


@dataclass(frozen=True)
class Result:
    """What the page and the API say of one image.

    Attributes:
        seen: the image that the model got.
        guesses: the most probable classes, in order.
        maps: of each guess, where in the image it comes from.
    """

    seen: UInt8[np.ndarray, "h w c"]
    guesses: tuple[Guess, ...]
    maps: Float[np.ndarray, "guesses h4 w4"]

    def as_dict(self) -> dict[str, Any]:
        """What the API answers."""
        first = self.guesses[0]
        return {
            "label": first.label,
            "superclass": first.superclass,
            "confidence": first.confidence,
            "top5": [vars(guess) for guess in self.guesses],
        }

    def as_html(self) -> str:
        """The image with its maps, and the guesses, each of which shows its map."""
        maps = "".join(
            f'<img class="map map-{i}" alt="" src="{_data_url(_overlay(m))}">'
            for i, m in enumerate(self.maps)
        )
        rows = "".join(_row(i, guess) for i, guess in enumerate(self.guesses))
        first = html.escape(self.guesses[0].label)
        height, width, _ = self.seen.shape
        return f"""<div class="result">
<figure>
<div class="seen"><img class="pixels" alt="what the model sees, {first}"
src="{_data_url(self.seen)}">{maps}</div>
<figcaption>The {width}x{height} pixels that the model sees, and where the chosen class
comes from</figcaption>
</figure>
<ol class="guesses">{rows}</ol>
</div>"""


def result_of(
    seen: UInt8[np.ndarray, "h w c"],
    probabilities: Float[np.ndarray, " classes"],
    maps: Float[np.ndarray, "h4 w4 classes"],
    *,
    class_names: Sequence[str],
    superclass_names: Sequence[str],
    superclass_of: Sequence[int],
) -> Result:
    """The result for one image, from what the model answers and the data set names."""
    order = np.argsort(-probabilities, kind="stable")[:TOP]
    guesses = tuple(
        Guess(
            label=readable(class_names[c]),
            superclass=readable(superclass_names[superclass_of[c]])
            if len(superclass_of)
            else None,
            confidence=float(probabilities[c]),
        )
        for c in order
    )
    return Result(seen, guesses, np.moveaxis(maps[:, :, order], -1, 0))


def readable(name: str) -> str:
    """A class's name as people write it."""
    return name.replace("_", " ")


def _row(index: int, guess: Guess) -> str:
    percent = f"{100 * guess.confidence:.1f} %"
    above = (
        f"<small>{html.escape(guess.superclass)}</small>" if guess.superclass else ""
    )
    checked = " checked" if index == 0 else ""
    return f"""<li><label>
<input type="radio" name="guess" class="choice-{index}"{checked}>
<span class="label">{html.escape(guess.label)} {above}</span>
<span class="percent">{percent}</span>
<span class="bar"><span style="width:{100 * guess.confidence:.1f}%"></span></span>
</label></li>"""


def _overlay(activation: Float[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 4"]:
    """Opaque where a class has most of its evidence, clear where it has none."""
    positive = np.maximum(activation, 0)
    alpha = positive / max(float(positive.max()), 1e-12)
    picture = np.empty((*activation.shape, 4), np.uint8)
    picture[..., :3] = _WARM
    picture[..., 3] = np.round(255 * alpha)
    return picture


def _data_url(pixels: UInt8[np.ndarray, "h w c"]) -> str:
    png = io.BytesIO()
    Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels).save(
        png, "PNG", compress_level=1
    )
    return "data:image/png;base64," + base64.b64encode(png.getvalue()).decode()
