"""Exports a model to a format, or imports one from PyTorch."""

from dataclasses import replace
from pathlib import Path
from typing import Protocol

from jax_resnet import data
from jax_resnet.checkpoint.metadata import Architecture
from jax_resnet.checkpoint.model_folder import StoredModel
from jax_resnet.formats import (
    Probabilities,
    onnx,
    pytorch,
    safetensors,
    space,
    stablehlo,
    verify,
)
from jax_resnet.formats.imported import imported_metadata
from jax_resnet.predictor import Predictor
from jax_resnet.runtime.errors import UserError
from jax_resnet.runtime.jax_settings import fixed_settings
from jax_resnet.runtime.text import say


class Format(Protocol):
    """A module of :mod:`jax_resnet.formats`."""

    def write(self, predictor: Predictor, path: Path) -> None:
        """Writes a file or folder."""

    def load(self, path: Path, predictor: Predictor) -> Predictor | Probabilities:
        """Reads it back."""


FORMATS: dict[str, Format] = {
    "safetensors": safetensors,
    "stablehlo": stablehlo,
    "onnx": onnx,
    "pytorch": pytorch,
    "space": space,
}
# These hold the model as it is. The others compute in float32.
FOLDERS = ("safetensors", "space")


def import_pytorch(
    path: Path, name: str, data_dir: str | None, *, command: str
) -> Predictor:
    """Reads a PyTorch state_dict of a model that was trained on a data set.

    The metadata will name the command. Raises UserError if the file is none, or does
    not fit the data set.
    """
    info = data.describe(name, data_dir=data_dir).info
    architecture, arrays = pytorch.read(path)
    found = architecture["num_classes"], architecture["in_channels"]
    if found != (info.num_classes, info.image_shape[-1]):
        raise UserError(
            f"{str(path)!r} has {found[0]} classes and {found[1]} channels, and "
            f"{info.name} has {info.num_classes} and {info.image_shape[-1]}: give the "
            "--data that it was trained on"
        )
    metadata = imported_metadata(
        architecture, arrays, info, title=path.stem, command=command
    )
    return Predictor(StoredModel(metadata, arrays, step=0))


@fixed_settings()
def write_and_compare(
    name: str, predictor: Predictor, path: Path, data_dir: str | None
) -> None:
    """Writes a model in one of :data:`FORMATS`, reads it back and compares it.

    Raises UserError if it differs, and OSError if it cannot be written.
    """
    metadata = predictor.metadata
    say(f"{metadata.run.title}, step {predictor.step}")
    verify.check_finite(predictor)
    if name not in FOLDERS and metadata.model["dtype"] != "float32":
        say(f"computes in float32; the run computed in {metadata.model['dtype']}")
        architecture = Architecture(**{**metadata.model, "dtype": "float32"})
        in_float32 = replace(metadata, model=architecture)
        predictor = Predictor(replace(predictor.stored, metadata=in_float32))
    FORMATS[name].write(predictor, path)
    loaded = FORMATS[name].load(path, predictor)
    if isinstance(loaded, Predictor):
        count = verify.compare_arrays(loaded, predictor)
        say(f"compared with the restored model: all {count} arrays identical")
        return
    images, description = verify.comparison_images(metadata, data_dir)
    difference, ties = verify.compare_outputs(loaded, predictor, images)
    say(
        f"compared with the restored model on {description}: top-1 identical"
        f"{f', except for {ties} ties' if ties else ''}, probabilities to "
        f"{difference:.1e}"
    )
