"""A Hugging Face Space: the demo, this package and the model in one folder."""

import shutil
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from PIL import Image

import jax_resnet
from jax_resnet.checkpoint import model_folder
from jax_resnet.formats import model_card
from jax_resnet.predictor import Predictor
from jax_resnet.reporting.markdown import plain
from jax_resnet.runtime.errors import UserError
from jax_resnet.runtime.files import write_atomically
from jax_resnet.runtime.packages import require
from jax_resnet.runtime.resources import own_folder

_PACKAGE = Path(jax_resnet.__file__).parent
_DEMO = own_folder("serve")
MODEL = "model"  # the folder where the demo looks for its model
_THUMBNAIL = "thumbnail.jpg"
_KEPT = {".py", ".typed", ".css", ".toml", ".png", ".jpg"}


def check() -> None:
    """Raises UserError if Gradio or the demo is missing."""
    require("gradio", extra="serve")
    if not (_DEMO / "app.py").is_file():
        raise UserError(f"the demo is not in {str(_DEMO)!r}: install jax_resnet again")


def write(predictor: Predictor, path: Path) -> None:
    """Writes the folder, in which ``python app.py`` starts the demo.

    Evaluation reports beside the model are copied too. Raises OSError if the folder
    cannot be written.
    """
    shutil.copytree(_DEMO, path, ignore=_ignored)
    shutil.copytree(_PACKAGE, path / _PACKAGE.name, ignore=_ignored)
    folder = path / MODEL
    folder.mkdir()
    model_folder.write(folder, predictor.stored)
    if predictor.source:
        for report in predictor.source.glob("evaluation-*.json"):
            shutil.copy(report, folder)
            if (figures := report.with_suffix("")).is_dir():
                shutil.copytree(figures, folder / figures.name)
    _collage(_DEMO / "examples").save(path / _THUMBNAIL, quality=85)
    write_atomically(path / "requirements.txt", _requirements().encode())
    write_atomically(path / "README.md", _readme(predictor).encode())


def load(path: Path, _: Predictor) -> Predictor:
    """Opens the model in the folder."""
    return Predictor.open(path / MODEL)


def _ignored(folder: str, names: list[str]) -> set[str]:
    suffixes = {name: Path(name).suffix for name in names}  # of folders: none
    ignored = {name for name, s in suffixes.items() if s and s not in _KEPT}
    # The package has a folder of the name MODEL, too, which is code. In a wheel, it
    # also has the demo.
    own = {_DEMO: {MODEL}, _PACKAGE: {_DEMO.name}}.get(Path(folder), set())
    return ignored | {"__pycache__"} | own


def _requirements() -> str:
    """Returns pins of the installed versions, with JAX for the CPU."""
    source = _PACKAGE.parent / "pyproject.toml"
    if source.exists():  # its installed metadata can be older
        project = tomllib.loads(source.read_text("utf-8"))["project"]
        lines = project["dependencies"] + project["optional-dependencies"]["serve"]
    else:
        lines = metadata.requires("jax-resnet-cifar") or []
    needed = map(Requirement, lines)
    served = {"extra": "serve"}
    names = {r.name for r in needed if not r.marker or r.marker.evaluate(served)}
    pins = [f"{name}=={metadata.version(name)}" for name in names]
    return "\n".join(sorted(pins)) + "\n"


def _collage(examples: Path) -> Image.Image:
    """Returns the demo's examples in two rows: the preview of a link is wide."""
    paths = sorted(p for p in examples.iterdir() if p.suffix in (".jpg", ".png"))
    columns, side = -(-len(paths) // 2), 300
    collage = Image.new("RGB", (columns * side, 2 * side), "white")
    for index, path in enumerate(paths):
        row, column = divmod(index, columns)
        with Image.open(path) as image:
            square = image.convert("RGB").resize((side, side))
        collage.paste(square, (column * side, row * side))
    return collage


def _readme(predictor: Predictor) -> str:
    run, info = predictor.metadata.run, predictor.info
    name = f"ResNet-{predictor.metadata.model['depth']} on {info.name}"
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    fields = {
        "title": name,
        "emoji": "🔎",
        "colorFrom": "indigo",
        "colorTo": "blue",
        "sdk": "gradio",
        "sdk_version": metadata.version("gradio"),
        "python_version": python,
        "app_file": "app.py",
        "license": "apache-2.0",
        "model": f"{run.title}, step {predictor.step}",
        "tags": ["jax", "flax", "resnet", "image-classification", info.name],
        "short_description": f"A small ResNet in JAX, {info.num_classes} classes",
        # Of the Space, so that its names have to be filled in.
        "thumbnail": f"https://huggingface.co/spaces/USER/NAME/resolve/main/{_THUMBNAIL}",
    }
    front = yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)
    return f"""---
{front}---

# {plain(name)}

Sorts pictures into {info.num_classes} classes, one or several at a time, and shows
which part of a picture speaks for a class.

{model_card.accuracy(predictor.stored)}

Python {python}, on the CPU: `pip install -r requirements.txt && python app.py`

`jax_resnet/` is the package that trained the model. `{MODEL}/` has its weights,
metadata and evaluation.
"""
