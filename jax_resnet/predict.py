"""Classifies pictures: ``python -m jax_resnet.predict --workdir RUN a.png b.png``."""

import argparse
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from jax_resnet.runtime.command_line import Parser, run
from jax_resnet.runtime.errors import UserError
from jax_resnet.runtime.files import is_writable, write_atomically
from jax_resnet.runtime.paths import path_argument
from jax_resnet.runtime.text import printable

if TYPE_CHECKING:  # it takes seconds
    from jax_resnet.predictor import Predictor


def __getattr__(name: str) -> Any:
    # The class is imported from here, too, and the command's arguments come first.
    if name == "Predictor":
        from jax_resnet.predictor import Predictor

        return Predictor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code."""
    options = _parser().parse_args(arguments)
    if options.top < 1:
        raise UserError(f"--top must be at least 1, not {options.top}")
    for path in options.files:
        if not path.is_file():
            raise UserError(f"{str(path)!r} is no file: name pictures")
    if options.json and not is_writable(options.json):
        raise UserError(f"cannot write {options.json}: name another file with --json")
    # These take seconds, so the arguments are checked before.
    from jax_resnet.checkpoint.best_run import most_accurate_run
    from jax_resnet.distributed import device
    from jax_resnet.predictor import Predictor

    device.cache_compilations("", device.select(options.device))
    workdir = options.workdir or most_accurate_run()
    if workdir is None:
        raise UserError("no model is at hand: name one with --workdir")
    predictor = Predictor.open(workdir, options.checkpoint)
    answers, unreadable = _classify(predictor, options)
    if options.json:
        content = {"model": predictor.describe(), "images": answers}
        write_atomically(options.json, (json.dumps(content, indent=2) + "\n").encode())
    if unreadable:
        raise UserError(
            f"{len(unreadable)} of {len(options.files)} files could not be read: "
            f"{unreadable[0]}"
        )
    return 0


def _classify(
    predictor: "Predictor", options: argparse.Namespace
) -> tuple[list[dict[str, Any]], list[str]]:
    """Prints the classes of each picture; returns them, and what was unreadable."""
    from tqdm import tqdm

    from jax_resnet.data.image_file import UnreadableImageError, read_image
    from jax_resnet.data.labels import top_classes

    info = predictor.info
    border = tuple(round(255 * mean) for mean in info.mean)
    answers: list[dict[str, Any]] = []
    unreadable = []
    print(predictor.describe(), file=sys.stderr)
    for path in tqdm(options.files, unit="image", leave=False, disable=None):
        try:
            image = read_image(path, info.image_shape, options.fit, border=border)
        except UnreadableImageError as error:
            unreadable.append(str(error))
            continue
        (probabilities,) = predictor.predict(image[None])
        classes, _ = top_classes(probabilities, info, options.top)
        shown = ", ".join(
            f"{c['label']} {100 * c['confidence']:.1f} %" for c in classes
        )
        tqdm.write(printable(f"{path}: {shown}"))
        answers.append({"file": str(path), "classes": classes})
    return answers, unreadable


def _parser() -> Parser:
    parser = Parser(
        prog="python -m jax_resnet.predict",
        description="Prints the most probable classes of pictures.",
    )
    parser.add_argument(
        "files",
        nargs="+",
        type=path_argument,
        metavar="FILE",
        help="a picture of any size",
    )
    parser.add_argument(
        "--workdir",
        type=path_argument,
        help="a run directory or an exported folder (default: the most accurate one in "
        "results/)",
    )
    parser.add_checkpoint()
    parser.add_argument(
        "--fit",
        choices=("crop", "pad"),
        default="crop",
        help="of a picture that is not square, take the middle (the default) or all",
    )
    parser.add_argument(
        "--top", type=int, default=5, help="number of classes to print (default: 5)"
    )
    parser.add_argument(
        "--json",
        type=path_argument,
        metavar="FILE",
        help="also write the classes to this file",
    )
    parser.add_argument("--device", default="auto", help="auto, gpu or cpu")
    return parser


if __name__ == "__main__":
    run(main)
