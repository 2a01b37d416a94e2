"""Evaluates a checkpoint: ``python -m jax_resnet.evaluate --workdir runs/resnet56``."""

import argparse
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jax_resnet.runtime.command_line import Parser, run
from jax_resnet.runtime.errors import UserError
from jax_resnet.runtime.files import is_writable, write_atomically
from jax_resnet.runtime.paths import path_argument
from jax_resnet.runtime.text import say


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code."""
    options = _parser().parse_args(arguments)
    if options.batch_size is not None and options.batch_size < 1:
        raise UserError(f"--batch-size must be at least 1, not {options.batch_size}")
    output = options.output or _default_output(options)
    if options.output and not is_writable(output):
        raise UserError(f"cannot write {output}: name another file with --output")
    if output.suffix in ("", ".md") and (output.is_file() or not output.exists()):
        raise UserError(
            f"--output {output} would be in the way of the page or the pictures beside "
            "it: give it a name that ends in .json"
        )
    content, page, pictures = _evaluate(options, output.stem)
    if not is_writable(output):
        say(f"not written, as {output.parent} is read-only: use --output")
        return 0
    write_atomically(output, (json.dumps(content, indent=2) + "\n").encode())
    say(f"written to {output}")
    if output.is_file():  # not /dev/stdout
        write_atomically(output.with_suffix(".md"), page.encode())
        for name, picture in pictures.items():
            output.with_suffix("").mkdir(exist_ok=True)
            write_atomically(output.with_suffix("") / name, picture)
    if len(options.workdir) == 1:
        _save_temperature(options.workdir[0], content)
    return 0


def _evaluate(
    options: argparse.Namespace, name: str
) -> tuple[dict[str, Any], str, dict[str, bytes]]:
    """Evaluates the models; returns the JSON, the page of this name, its pictures."""
    # These take seconds, so the arguments are checked before.
    from jax_resnet.distributed import device
    from jax_resnet.evaluation import report
    from jax_resnet.evaluation.figures import draw_all
    from jax_resnet.evaluation.run import compare_runs, evaluate_run

    device.cache_compilations("", device.select(options.device))
    models = []
    for workdir in options.workdir:
        say(f"{workdir}:")
        evaluation = evaluate_run(
            workdir,
            options.split,
            checkpoint=options.checkpoint,
            data_dir=options.data_dir,
            batch_size=options.batch_size,
        )
        models.append((str(workdir), evaluation))
        print()
    if len(models) == 1:
        ((_, one),) = models
        pictures = draw_all(one.report, one.info, one.split.images)
        return one.report, report.render(one.report, pictures=name), pictures
    comparison = compare_runs(models, options.split)
    page = report.render_comparison(comparison)
    print(page)
    return comparison, page, {}


def _save_temperature(workdir: Path, content: dict[str, Any]) -> None:
    """Keeps the fitted temperature with a run, if it can be written."""
    from jax_resnet.checkpoint.model_folder import is_model_folder
    from jax_resnet.checkpoint.temperature import save_temperature

    # The files of an exported folder have digests, so its temperature is final.
    if is_model_folder(workdir) or not os.access(workdir, os.W_OK):
        return
    fitted = content["calibration"]
    save_temperature(
        workdir,
        step=content["step"],
        temperature=fitted["temperature"],
        fitted_on=fitted["fitted_on"],
    )


def _default_output(options: argparse.Namespace) -> Path:
    split = re.sub(r"\W", "_", options.split).strip("_")
    if len(options.workdir) > 1:
        return Path(f"comparison-{split}.json")
    return Path(options.workdir[0] / f"evaluation-{split}.json")


def _parser() -> Parser:
    parser = Parser(
        prog="python -m jax_resnet.evaluate",
        description="Evaluates a checkpoint on a split, or compares several.",
    )
    parser.add_argument(
        "--workdir",
        required=True,
        type=path_argument,
        nargs="+",
        help="a run directory or an exported folder; several are compared",
    )
    parser.add_checkpoint()
    parser.add_argument(
        "--split",
        default="test",
        help='a TFDS expression such as "train[:10%%]" (default: test), or "holdout" '
        "for the images that were held out of training",
    )
    parser.add_argument(
        "--output",
        type=path_argument,
        help="JSON file, with a Markdown page and pictures beside it (default: "
        "WORKDIR/evaluation-SPLIT.json, or comparison-SPLIT.json for several)",
    )
    parser.add_argument("--data-dir", help="prepared data (default: as in training)")
    parser.add_argument(
        "--batch-size", type=int, help="images per call (default: what is fast)"
    )
    parser.add_argument("--device", default="auto", help="auto, gpu or cpu")
    return parser


if __name__ == "__main__":
    run(main)
