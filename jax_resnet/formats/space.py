"""A complete Hugging Face Space: the demo, this package and the model."""

import shutil
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import yaml
from packaging.requirements import Requirement

import jax_resnet
from jax_resnet.checkpoint import model_folder
from jax_resnet.formats import Probabilities, safetensors_folder
from jax_resnet.formats.output import require, write_file
from jax_resnet.predict import Predictor
from jax_resnet.runtime.errors import UserError

_PACKAGE = Path(jax_resnet.__file__).parent
_DEMO = _PACKAGE.parent / "serve"
MODEL = "model"  # the folder that the demo looks for beside itself


def check() -> None:
    """Checks, before anything is done, that there is what a Space is made of.

    Raises:
        UserError: if there is not.
    """
    require("gradio", extra="serve")
    if not (_DEMO / "app.py").is_file():
        raise UserError(
            f"no demo in {str(_DEMO)!r}: --format space needs the project's own "
            "folder, installed by pip install -e ."
        )


def write(predictor: Predictor, path: Path) -> None:
    """Makes the folder, in which ``python app.py`` starts the demo.

    The evaluation that lies beside the model comes with it.

    Raises:
        UserError: if what it needs is not installed.
        OSError: if it cannot be written.
    """
    shutil.copytree(_DEMO, path, ignore=_left_out)
    shutil.copytree(_PACKAGE, path / _PACKAGE.name, ignore=_left_out)
    folder = path / MODEL
    folder.mkdir()
    model_folder.write(folder, predictor.stored)
    if predictor.source:
        for report in predictor.source.glob("evaluation-*.json"):
            write_file(folder / report.name, report.read_bytes())
            if (pictures := report.with_suffix("")).is_dir():
                shutil.copytree(pictures, folder / pictures.name)
    write_file(path / "requirements.txt", _requirements().encode())
    write_file(path / "README.md", _card(predictor).encode())


def load(path: Path, predictor: Predictor) -> Probabilities:
    """The model of a folder that :func:`write` wrote, for comparison.

    Raises:
        UserError: if it cannot be opened, or is not exactly the model.
    """
    return safetensors_folder.load(path / MODEL, predictor)


def _left_out(_: str, names: list[str]) -> set[str]:
    kept = {".py", ".typed", ".css", ".png", ""}  # without suffix: folders
    return {
        name
        for name in names
        if name in ("__pycache__", MODEL) or Path(name).suffix not in kept
    }


def _requirements() -> str:
    """What the package and the demo need, at the versions installed here.

    That of JAX is the one for the CPU.
    """
    # Not of the installed metadata, which lag behind the source they point to.
    project = tomllib.loads((_DEMO.parent / "pyproject.toml").read_text())["project"]
    needed = map(Requirement, project["dependencies"])
    names = {r.name for r in needed if not r.marker or r.marker.evaluate()}
    try:
        pins = [f"{name}=={metadata.version(name)}" for name in {*names, "gradio"}]
    except metadata.PackageNotFoundError as error:
        raise UserError(f"{error.name} is not installed: pip install -e .") from error
    return "\n".join(sorted(pins)) + "\n"


def _card(predictor: Predictor) -> str:
    run, info = predictor.metadata.run, predictor.metadata.dataset
    name = f"ResNet-{predictor.metadata.model['depth']} on {info.name}"
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    fields = {
        "title": name,
        "sdk": "gradio",
        "sdk_version": metadata.version("gradio"),
        "python_version": python,
        "app_file": "app.py",
        "license": "apache-2.0",
        "model": f"{run.title}, step {predictor.step}",
        "tags": ["jax", "flax", "image-classification", info.name],
        "short_description": f"A small ResNet in JAX, {info.num_classes} classes",
    }
    front = yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)
    return f"""---
{front}---

# {name}

Sorts pictures into {info.num_classes} classes, and shows where in a picture a class
comes from. The page has the model's card, read from its checkpoint.

Python {python}, on the CPU: `pip install -r requirements.txt && python app.py`

`jax_resnet/` is the package that trained the model, `{MODEL}/` the model: weights, the
record of its training and the evaluation.
"""
