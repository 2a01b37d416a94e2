"""Evaluates a checkpoint: ``python -m jax_resnet.evaluate --workdir runs/resnet56``."""

import argparse
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jax_resnet.checkpoint.model_folder import is_model_folder
from jax_resnet.checkpoint.temperature import save_temperature
from jax_resnet.distributed import device
from jax_resnet.evaluation import report
from jax_resnet.evaluation.figures import draw_all
from jax_resnet.evaluation.results import compare
from jax_resnet.evaluation.run import Evaluation, evaluate_run
from jax_resnet.runtime.command_line import Parser, run
from jax_resnet.runtime.errors import UserError
from jax_resnet.runtime.files import write_atomically


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code."""
    options = _parser().parse_args(arguments)
    if options.batch_size is not None and options.batch_size < 1:
        raise UserError(f"--batch-size must be at least 1, not {options.batch_size}")
    output = options.output or _default_output(options)
    is_writable = os.access(output if output.exists() else output.parent, os.W_OK)
    if options.output and not is_writable:
        raise UserError(f"cannot write {output}: name another file with --output")
    device.cache_compilations("", device.select(options.device))
    models = []
    for workdir in options.workdir:
        print(f"{workdir}:")
        models.append(
            evaluate_run(
                workdir,
                options.split,
                checkpoint=options.checkpoint,
                data_dir=options.data_dir,
                batch_size=options.batch_size,
            )
        )
        print()
    if len(models) == 1:
        content = models[0].report
        page = report.render(content, pictures=output.stem)
        pictures = draw_all(content, models[0].info, models[0].split.images)
    else:
        content = _compare(options, models)
        page, pictures = report.render_comparison(content), {}
        print(page)
    if not is_writable:
        print(f"not written, as {output.parent} is read-only: use --output")
        return 0
    write_atomically(output, (json.dumps(content, indent=2) + "\n").encode())
    print(f"written to {output}")
    if output.is_file():  # not /dev/stdout
        write_atomically(output.with_suffix(".md"), page.encode())
        for name, picture in pictures.items():
            output.with_suffix("").mkdir(exist_ok=True)
            write_atomically(output.with_suffix("") / name, picture)
    workdir = options.workdir[0]
    # The files of an exported folder have digests, so its temperature is final.
    may_save = os.access(workdir, os.W_OK) and not is_model_folder(workdir)
    if len(models) == 1 and may_save:
        fitted = content["calibration"]
        save_temperature(
            workdir,
            step=content["step"],
            temperature=fitted["temperature"],
            fitted_on=fitted["fitted_on"],
        )
    return 0


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
        type=Path,
        nargs="+",
        help="a run directory or an exported folder; several are compared",
    )
    parser.add_argument(
        "--checkpoint", default="best", help="best (the default), latest or a step"
    )
    parser.add_argument(
        "--split",
        default="test",
        help='a TFDS expression such as "train[:10%%]" (default: test), or "holdout" '
        "for the images that were held out of training",
    )
    parser.add_argument(
        "--output",
        type=Path,
        help="JSON file, with a Markdown page and pictures beside it (default: "
        "WORKDIR/evaluation-SPLIT.json, or comparison-SPLIT.json for several)",
    )
    parser.add_argument("--data-dir", help="prepared data (default: as in training)")
    parser.add_argument(
        "--batch-size", type=int, help="images per call (default: what is fast)"
    )
    parser.add_argument("--device", default="auto", help="auto, gpu or cpu")
    return parser


def _compare(
    options: argparse.Namespace, models: Sequence[Evaluation]
) -> dict[str, Any]:
    """Returns the JSON of a comparison."""
    names = [str(workdir) for workdir in options.workdir]
    first = models[0]
    for name, one in zip(names, models, strict=True):
        same_images = np.array_equal(one.split.images, first.split.images)
        if one.info != first.info or not same_images:
            raise UserError(
                f"{name} was evaluated on other images than {names[0]}: compare models "
                "of one data set"
            )
    return {
        "dataset": first.info.name,
        "split": options.split,
        "models": [
            {"workdir": name, **one.report}
            for name, one in zip(names, models, strict=True)
        ],
        **compare(names, [one.correct for one in models]),
    }


if __name__ == "__main__":
    run(main)
