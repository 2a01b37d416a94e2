"""Exports a model, or imports one from PyTorch.

``python -m jax_resnet.export --workdir runs/resnet56 --format onnx --output r56.onnx``
"""

import argparse
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol

from jax_resnet import data
from jax_resnet.checkpoint.model_folder import StoredModel
from jax_resnet.distributed import device
from jax_resnet.formats import (
    Probabilities,
    comparison,
    hub,
    onnx_model,
    pytorch,
    pytorch_import,
    safetensors_folder,
    space,
    stablehlo,
)
from jax_resnet.formats.output import new_output, require
from jax_resnet.predict import Predictor
from jax_resnet.runtime.command_line import Parser, run
from jax_resnet.runtime.errors import UserError


class Format(Protocol):
    """What the modules of the formats have."""

    def write(self, predictor: Predictor, path: Path) -> None:
        """Writes a file or folder."""

    def load(self, path: Path, predictor: Predictor) -> Probabilities:
        """Reads it as its receiver does."""


FORMATS: dict[str, Format] = {
    "safetensors": safetensors_folder,
    "stablehlo": stablehlo,
    "onnx": onnx_model,
    "pytorch": pytorch,
    "space": space,
}
# Reading these back compares every array, and the code that computes is our own.
EXACT = ("safetensors", "pytorch", "space")
# What the Hub has as a model, and as a Space.
PUSHED: dict[str, Literal["model", "space"]] = {
    "safetensors": "model",
    "space": "space",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = Parser(
        prog="python -m jax_resnet.export",
        description="Writes a model in a format that travels, and compares what was "
        "written with the restored model before it gets its name.",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--workdir",
        type=Path,
        help="a run directory, or a folder that was exported",
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
        "--push",
        metavar="USER/NAME",
        help="also upload to the Hugging Face Hub; of --format safetensors and space",
    )
    parser.add_argument(
        "--data", metavar="NAME", help="of --from-pytorch: the data set it is for"
    )
    parser.add_argument(
        "--data-dir", help="prepared data, to compare on; default as in training"
    )
    options = parser.parse_args(arguments)
    name = _format_name(options)
    if options.push:
        if name not in PUSHED:
            raise UserError("--push uploads what --format safetensors or space writes")
        hub.check(options.push)
    if name == "onnx":
        require("onnx", "onnxruntime", extra="export")
    if name == "space":
        space.check()

    # One device for all comparisons, because a GPU computes float32 less exactly.
    chosen = device.select("cpu", "--device")
    device.cache_compilations("", chosen)
    with new_output(options.output) as temporary:
        if options.from_pytorch:
            predictor = _import(options)
        else:
            predictor = Predictor.open(options.workdir, options.checkpoint)
        _write(name, predictor, temporary, options.data_dir)
    print(f"written to {options.output}")
    if options.push:
        print(f"uploaded to {hub.push(options.output, options.push, PUSHED[name])}")
    return 0


def _format_name(options: argparse.Namespace) -> str:
    if options.from_pytorch:
        if options.format not in (None, "safetensors"):
            raise UserError("--from-pytorch gives a folder of --format safetensors")
        if not options.data:
            raise UserError(
                "--from-pytorch needs --data, such as cifar100: a state_dict has "
                "neither class names nor the normalisation"
            )
        return "safetensors"
    if options.data:
        raise UserError("--data is for --from-pytorch: a run knows its data set")
    if not options.format:
        raise UserError(f"--format is missing: one of {', '.join(FORMATS)}")
    return str(options.format)


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
    metadata = pytorch_import.metadata_of(
        architecture,
        arrays,
        info,
        title=path.stem,
        command=shlex.join(["python", "-m", "jax_resnet.export", *sys.argv[1:]]),
    )
    return Predictor(StoredModel(metadata, arrays, step=0))


def _write(name: str, predictor: Predictor, path: Path, data_dir: str | None) -> None:
    started = time.monotonic()
    metadata = predictor.metadata
    print(f"{metadata.run.title}, step {predictor.step}")
    if name not in PUSHED and metadata.model["dtype"] != "float32":
        print(f"computes in float32; the run computed in {metadata.model['dtype']}")
        predictor = predictor.in_float32()
    FORMATS[name].write(predictor, path)
    exported = FORMATS[name].load(path, predictor)
    if name in EXACT:
        sample = comparison.random_sample(metadata.dataset)
    else:
        sample = comparison.sample(metadata, data_dir)
    found = comparison.compare(exported, predictor, sample.images)
    ties = f", but for {found.ties} ties" if found.ties else ""
    print(
        f"compared with the restored model on {sample.description}: top-1 identical"
        f"{ties}, probabilities to {found.max_difference:.1e}; "
        f"{time.monotonic() - started:.1f} s"
    )


if __name__ == "__main__":
    run(main)
