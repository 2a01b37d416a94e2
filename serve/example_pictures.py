"""The demo's examples, and what the model answers to them."""

import base64
import io
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from classifier import HERE, Classifier
from PIL import Image
from prediction import shown

from jax_resnet.data.labels import readable

FOLDER = HERE / "examples"
_SIDE = 144  # pixels of a thumbnail, twice its size on the page


@dataclass(frozen=True)
class Example:
    """A picture of the folder ``examples``."""

    path: Path
    shows: str  # the thing in the picture
    source: str  # who made it, and its licence
    why: str  # why the model that ships gets it wrong; empty if it does not
    is_known: bool  # whether the thing is one of the model's classes
    answer: str  # the model's

    @property
    def is_right(self) -> bool:
        """Whether the model's answer is what the picture shows."""
        return self.answer == self.shows


def as_html(examples: Sequence[Example]) -> str:
    """Returns buttons, whose values are what the pictures show, and the answers."""
    buttons = "".join(
        f"""<button value="{each.shows}"><img alt="" src="{_thumbnail(each.path)}">
<span>{each.shows}</span></button>"""
        for each in examples
    )
    sources = "".join(f"<li>{each.shows}: {each.source}</li>" for each in examples)
    return f"""<div class="examples" role="group" aria-label="Examples">
{buttons}</div>
<p>{shown(summary(examples))}</p>
<details><summary>Where these pictures are from</summary><ul>{sources}</ul></details>"""


def summary(examples: Sequence[Example]) -> str:
    """Says which of the examples the model gets right, and which it does not."""
    known = [example for example in examples if example.is_known]
    right = sum(example.is_right for example in known)
    sentences = [
        f"The model knows {len(known)} of these things and is right on {right}."
    ]
    for example in known:
        if not example.is_right:
            why = f": {example.why}" if example.why else "."
            sentences.append(
                f"It takes the {example.shows} for “{example.answer}”{why}"
            )
    unknown = [f"the {each.shows}" for each in examples if not each.is_known]
    if unknown:
        *others, last = unknown
        are = f"{', '.join(others)} and {last} are" if others else f"{last} is"
        sentences.append(
            f"T{are[1:]} none of the things that it knows, so it has to be wrong there."
        )
    return " ".join(sentences)


def answered_by(classifier: Classifier) -> list[Example]:
    """Returns the examples with the model's answers, none if it knows no such thing."""
    pictures = tomllib.loads((FOLDER / "examples.toml").read_text("utf-8"))["pictures"]
    known = set(map(readable, classifier.predictor.info.class_names))
    if known.isdisjoint(picture["shows"] for picture in pictures):
        return []
    return [
        Example(
            path=FOLDER / picture["file"],
            shows=picture["shows"],
            source=picture["source"],
            why=picture.get("why", ""),
            is_known=picture["shows"] in known,
            answer=classifier(FOLDER / picture["file"], "crop").classes[0]["label"],
        )
        for picture in pictures
    ]


def _thumbnail(path: Path) -> str:
    jpeg = io.BytesIO()
    with Image.open(path) as image:
        image.convert("RGB").resize((_SIDE, _SIDE)).save(jpeg, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(jpeg.getvalue()).decode()
