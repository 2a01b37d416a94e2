"""A prediction as JSON for the API, and as HTML for the page."""

import base64
import html
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from jax_resnet.data.labels import ClassConfidence
from jax_resnet.runtime.text import printable

_MAP_COLOR = (255, 90, 0)
# From these probabilities on an answer is called probable, and sure.
_PROBABLE, _SURE = 0.5, 0.8


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of an image."""

    image: UInt8[np.ndarray, "h w c"]  # the pixels that went into the model
    classes: list[ClassConfidence]  # the most probable classes, in descending order
    maps: Float[np.ndarray, "n h4 w4"]  # the class-activation map of each of them
    seconds: float  # from the upload to these

    @property
    def verdict(self) -> str:
        """The answer in a few words, as HTML, with its doubt."""
        first = self.classes[0]
        label = f"<strong>{shown(first['label'])}</strong>"
        confidence = first["confidence"]
        if confidence < _PROBABLE:
            return f"Not sure. Perhaps {label}"
        return label if confidence >= _SURE else f"Probably {label}"

    def as_dict(self) -> dict[str, Any]:
        """Returns the answer of the API."""
        return {**self.classes[0], "top5": self.classes}

    def as_html(self) -> str:
        """Returns the image and the classes, each of which shows its map if chosen."""
        maps = "".join(
            f'<img class="map map-{i}" alt="" src="{data_url(_overlay(m))}">'
            for i, m in enumerate(self.maps)
        )
        rows = "".join(_row(i, each) for i, each in enumerate(self.classes))
        height, width, _ = self.image.shape
        return f"""<div class="result">
<div class="verdict" role="status"><p>{self.verdict}</p>
<small>answered in {1000 * self.seconds:.0f} ms</small></div>
<figure>
<div class="picture" style="aspect-ratio: {width} / {height}">
<img class="pixels" alt="the picture in {width} by {height} pixels"
 src="{data_url(self.image)}">{maps}</div>
<figcaption>What the model sees, {width}x{height} pixels. What speaks for the chosen
answer is highlighted.</figcaption>
</figure>
<fieldset class="classes">
<legend>Choose an answer to see what speaks for it</legend>
<ol>{rows}</ol>
</fieldset>
</div>"""


def shown(name: str) -> str:
    """Returns a name as HTML."""
    return html.escape(printable(name))


def group(each: ClassConfidence) -> str:
    """Returns the superclass as HTML, nothing if there is none."""
    superclass = each["superclass"]
    return f"<small>{shown(superclass)}</small>" if superclass else ""


def percent(confidence: float) -> str:
    """Returns a probability as it is shown."""
    return f"{100 * confidence:.1f} %"


def data_url(pixels: UInt8[np.ndarray, "h w c"]) -> str:
    """Returns an image as the address of a picture."""
    png = io.BytesIO()
    image = Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels)
    image.save(png, "PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(png.getvalue()).decode()


def _row(index: int, each: ClassConfidence) -> str:
    confidence = percent(each["confidence"])
    checked = " checked" if index == 0 else ""
    return f"""<li><label>
<input type="radio" name="class" class="choice-{index}"{checked}>
<span class="label">{shown(each["label"])} {group(each)}</span>
<span class="percent">{confidence}</span>
<span class="bar"><span style="width: {100 * each["confidence"]:.1f}%"></span></span>
</label></li>"""


def _overlay(activation: Float[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 4"]:
    """Returns an RGBA image, opaque where the activation is greatest."""
    positive = np.maximum(activation, 0)
    alpha = positive / max(float(positive.max()), 1e-12)
    image = np.empty((*activation.shape, 4), np.uint8)
    image[..., :3] = _MAP_COLOR
    image[..., 3] = np.round(255 * alpha)
    return image
