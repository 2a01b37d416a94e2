"""Exports a model, or imports one from PyTorch.

``python -m jax_resnet.export --workdir runs/resnet56 --format onnx --output r56.onnx``
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from jax_resnet import data
from jax_resnet.checkpoint.metadata import Architecture
from jax_resnet.checkpoint.model_folder import StoredModel
from jax_resnet.distributed import device
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
from jax_resnet.formats.output import new_output, require
from jax_resnet.predictor import Predictor
from jax_resnet.runtime.command_line import Parser, run
from jax_resnet.runtime.errors import UserError


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


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    options = _parse(arguments)
    if options.format == "onnx":
        require("onnx", "onnxruntime", extra="export")
    if options.format == "space":
        space.check()
    # The CPU, because a GPU computes float32 less exactly.
    device.cache_compilations("", device.select("cpu"))
    with new_output(options.output) as temporary:
        if options.from_pytorch:
            predictor = _import(options)
        else:
            predictor = Predictor.open(options.workdir, options.checkpoint)
        _export(options.format, predictor, temporary, options.data_dir)
    print(f"written to {options.output}")
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(
        prog="python -m jax_resnet.export",
        description="Exports a model to another format, reads the result back and "
        "compares it with the model.",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--workdir", type=Path, help="a run directory, or an exported folder"
    )
    source.add_argument(
        "--from-pytorch",
        type=Path,
        metavar="FILE",
        help="a state_dict to import, as --format safetensors",
    )
    parser.add_argument("--format", choices=list(FORMATS))
    parser.add_argument("--output", required=True, type=Path, help="must not exist")
    parser.add_argument(
        "--checkpoint", default="best", help="best (the default), latest or a step"
    )
    parser.add_argument(
        "--data", metavar="NAME", help="with --from-pytorch: the model's data set"
    )
    parser.add_argument(
        "--data-dir", help="folder of prepared data sets; default as in training"
    )
    options = parser.parse_args(arguments)
    if options.from_pytorch:
        if options.format not in (None, "safetensors"):
            raise UserError("--from-pytorch writes a folder of --format safetensors")
        if not options.data:
            raise UserError(
                "--from-pytorch needs --data, such as cifar100: a state_dict has "
                "neither class names nor the normalisation"
            )
        options.format = "safetensors"
    elif options.data:
        raise UserError("--data is for --from-pytorch: a run knows its data set")
    elif not options.format:
        raise UserError(f"--format is missing: one of {', '.join(FORMATS)}")
    return options


def _import(options: argparse.Namespace) -> Predictor:
    path = options.from_pytorch
    architecture, arrays = pytorch.read(path)
    info = data.describe(options.data, data_dir=options.data_dir).info
    found = architecture["num_classes"], architecture["in_channels"]
    if found != (info.num_classes, info.image_shape[-1]):
        raise UserError(
            f"{str(path)!r} has {found[0]} classes and {found[1]} channels, and "
            f"{info.name} has {info.num_classes} and {info.image_shape[-1]}: give the "
            "--data that it was trained on"
        )
    command = shlex.join(["python", "-m", "jax_resnet.export", *sys.argv[1:]])
    metadata = imported_metadata(
        architecture, arrays, info, title=path.stem, command=command
    )
    return Predictor(StoredModel(metadata, arrays, step=0))


def _export(name: str, predictor: Predictor, path: Path, data_dir: str | None) -> None:
    """Writes a model, reads it back and compares it."""
    metadata = predictor.metadata
    print(f"{metadata.run.title}, step {predictor.step}")
    verify.check_finite(predictor)
    if name not in FOLDERS and metadata.model["dtype"] != "float32":
        print(f"computes in float32; the run computed in {metadata.model['dtype']}")
        architecture = Architecture(**{**metadata.model, "dtype": "float32"})
        in_float32 = replace(metadata, model=architecture)
        predictor = Predictor(replace(predictor.stored, metadata=in_float32))
    FORMATS[name].write(predictor, path)
    loaded = FORMATS[name].load(path, predictor)
    if isinstance(loaded, Predictor):
        count = verify.compare_arrays(loaded, predictor)
        print(f"compared with the restored model: all {count} arrays identical")
        return
    images, description = verify.comparison_images(metadata, data_dir)
    difference, ties = verify.compare_outputs(loaded, predictor, images)
    print(
        f"compared with the restored model on {description}: top-1 identical"
        f"{f', except for {ties} ties' if ties else ''}, probabilities to "
        f"{difference:.1e}"
    )


if __name__ == "__main__":
    run(main)
