"""Exports a model, or imports one from PyTorch.

``python -m jax_resnet.export --workdir runs/resnet56 --format onnx --output r56.onnx``
"""

import argparse
import shlex
import sys
from collections.abc import Sequence

from jax_resnet.formats.output import check_free, new_output
from jax_resnet.runtime.command_line import Parser, run
from jax_resnet.runtime.errors import UserError
from jax_resnet.runtime.packages import require
from jax_resnet.runtime.paths import path_argument
from jax_resnet.runtime.text import say

FORMATS = ("safetensors", "stablehlo", "onnx", "pytorch", "space")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = _parse(arguments)
    _check_places(options)
    if options.format == "onnx":
        require("onnx", "onnxruntime", extra="export")
    # These take seconds, so the arguments are checked before.
    from jax_resnet.distributed import device
    from jax_resnet.formats import convert, space
    from jax_resnet.predictor import Predictor

    if options.format == "space":
        space.check()
    # The CPU, because a GPU computes float32 less exactly.
    device.cache_compilations("", device.select("cpu"))
    with new_output(options.output) as temporary:
        if options.from_pytorch:
            command = shlex.join(["python", "-m", "jax_resnet.export", *arguments])
            predictor = convert.import_pytorch(
                options.from_pytorch, options.data, options.data_dir, command=command
            )
        else:
            predictor = Predictor.open(options.workdir, options.checkpoint)
        convert.write_and_compare(
            options.format, predictor, temporary, options.data_dir
        )
    say(f"written to {options.output}")
    return 0


def _check_places(options: argparse.Namespace) -> None:
    """Raises UserError if there is nothing to read, or the output cannot be it."""
    check_free(options.output)
    if options.format == "pytorch" and options.output.suffix != ".safetensors":
        raise UserError("--output of --format pytorch must end in .safetensors")
    if options.workdir and not options.workdir.is_dir():
        raise UserError(
            f"no folder {str(options.workdir)!r}: give a run directory or an exported "
            "folder"
        )
    if options.from_pytorch and not options.from_pytorch.is_file():
        raise UserError(
            f"no file {str(options.from_pytorch)!r}: give a state_dict of PyTorch"
        )


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(
        prog="python -m jax_resnet.export",
        description="Exports a model to another format, reads the result back and "
        "compares it with the model.",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--workdir", type=path_argument, help="a run directory, or an exported folder"
    )
    source.add_argument(
        "--from-pytorch",
        type=path_argument,
        metavar="FILE",
        help="a state_dict to import, as --format safetensors",
    )
    parser.add_argument("--format", choices=FORMATS)
    parser.add_argument(
        "--output", required=True, type=path_argument, help="must not exist"
    )
    parser.add_checkpoint()
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


if __name__ == "__main__":
    run(main)
