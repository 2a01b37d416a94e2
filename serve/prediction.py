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
_SIDE = 256  # pixels of the page, the longer side of the image


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of an image."""

    image: UInt8[np.ndarray, "h w c"]  # the pixels that went into the model
    classes: list[ClassConfidence]  # the most probable classes, in descending order
    maps: Float[np.ndarray, "n h4 w4"]  # the class-activation map of each of them

    def as_dict(self) -> dict[str, Any]:
        """Returns the answer of the API."""
        return {**self.classes[0], "top5": self.classes}

    def as_html(self) -> str:
        """Returns the image and the classes, each of which shows its map if chosen."""
        maps = "".join(
            f'<img class="map map-{i}" alt="" src="{_data_url(_overlay(m))}">'
            for i, m in enumerate(self.maps)
        )
        rows = "".join(_row(i, each) for i, each in enumerate(self.classes))
        label = _shown(self.classes[0]["label"])
        height, width, _ = self.image.shape
        scale = _SIDE / max(height, width)
        size = f"width: {scale * width:.0f}px; height: {scale * height:.0f}px"
        return f"""<div class="result">
<figure>
<div class="picture" style="{size}">
<img class="pixels" alt="the input of the model, {label}" src="{_data_url(self.image)}">
{maps}</div>
<figcaption>The input of the model, {width}x{height} pixels, and the regions that speak
for the chosen class</figcaption>
</figure>
<ol class="classes">{rows}</ol>
</div>"""


def _row(index: int, each: ClassConfidence) -> str:
    percent = 100 * each["confidence"]
    superclass = (
        f"<small>{_shown(each['superclass'])}</small>" if each["superclass"] else ""
    )
    checked = " checked" if index == 0 else ""
    return f"""<li><label>
<input type="radio" name="class" class="choice-{index}"{checked}>
<span class="label">{_shown(each["label"])} {superclass}</span>
<span class="percent">{percent:.1f} %</span>
<span class="bar"><span style="width:{percent:.1f}%"></span></span>
</label></li>"""


def _shown(name: str) -> str:
    return html.escape(printable(name))


def _overlay(activation: Float[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 4"]:
    """Returns an RGBA image, opaque where the activation is greatest."""
    positive = np.maximum(activation, 0)
    alpha = positive / max(float(positive.max()), 1e-12)
    image = np.empty((*activation.shape, 4), np.uint8)
    image[..., :3] = _MAP_COLOR
    image[..., 3] = np.round(255 * alpha)
    return image


def _data_url(pixels: UInt8[np.ndarray, "h w c"]) -> str:
    png = io.BytesIO()
    image = Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels)
    image.save(png, "PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(png.getvalue()).decode()
