"""Evaluates a checkpoint: ``python -m jax_resnet.evaluate --workdir runs/resnet56``."""

import argparse
import json
import os
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jax_resnet import data
from jax_resnet.checkpoint.model_folder import is_model_folder
from jax_resnet.checkpoint.temperature import save_temperature
from jax_resnet.distributed import device
from jax_resnet.evaluation import report
from jax_resnet.evaluation.figures import draw_all
from jax_resnet.evaluation.results import compare, evaluate
from jax_resnet.predictor import Predictor
from jax_resnet.runtime.command_line import Parser, run
from jax_resnet.runtime.errors import UserError
from jax_resnet.runtime.files import write_atomically

# The JSON report, whether each image is classified correctly, and the data.
_Model = tuple[dict[str, Any], np.ndarray, data.DatasetInfo, data.Split]


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
        models.append(_evaluate(workdir, options))
        print()
    if len(models) == 1:
        content, _, info, split = models[0]
        page = report.render(content, pictures=output.stem)
        pictures = draw_all(content, info, split.images)
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


def _compare(options: argparse.Namespace, models: Sequence[_Model]) -> dict[str, Any]:
    """Returns the JSON of a comparison."""
    names = [str(workdir) for workdir in options.workdir]
    reports, correct, infos, splits = zip(*models, strict=True)
    for name, info, split in zip(names, infos, splits, strict=True):
        if info != infos[0] or not np.array_equal(split.images, splits[0].images):
            raise UserError(
                f"{name} was evaluated on other images than {names[0]}: compare models "
                "of one data set"
            )
    return {
        "dataset": infos[0].name,
        "split": options.split,
        "models": [
            {"workdir": name, **one} for name, one in zip(names, reports, strict=True)
        ],
        **compare(names, correct),
    }


def _evaluate(workdir: Path, options: argparse.Namespace) -> _Model:
    """Evaluates one model and prints its main metrics."""
    started = time.monotonic()
    predictor = Predictor.open(
        workdir, options.checkpoint, batch_size=options.batch_size
    )
    metadata, name = predictor.metadata, device.describe(device.current())
    info, split = _load_split(predictor, options.split, options.data_dir)
    ready = time.monotonic()
    logits = predictor.logits(split.images)
    print(
        f"{metadata.run.title}, {options.checkpoint} checkpoint: epoch "
        f"{len(metadata.history)}, step {predictor.step}, selected on "
        f"{metadata.run.eval_name}\n{info.name} {options.split} on {name}: ready in "
        f"{ready - started:.1f} s, evaluated in {time.monotonic() - ready:.1f} s\n"
    )
    held_out = None
    if metadata.config["data"]["holdout"] and options.split != data.HOLDOUT:
        _, others = _load_split(predictor, data.HOLDOUT, options.data_dir)
        held_out = predictor.logits(others.images), others.labels
    as_json = {
        "title": metadata.run.title,
        "checkpoint": options.checkpoint,
        "step": predictor.step,
        "epoch": len(metadata.history),
        "selected_on": metadata.run.eval_name,
        "dataset": info.name,
        "split": options.split,
        "device": name,
        **evaluate(logits, split.labels, info, split=options.split, held_out=held_out),
    }
    print(report.render_headline(as_json), flush=True)
    return as_json, logits.argmax(axis=1) == split.labels, info, split


def _load_split(
    predictor: Predictor, split: str, data_dir: str | None
) -> tuple[data.DatasetInfo, data.Split]:
    settings = predictor.metadata.config["data"]
    info, images = data.load_split(
        settings["name"],
        split,
        data_dir=data_dir or settings["dir"] or None,
        cache_dir=settings["cache_dir"] or None,
        train_split=settings["train_split"],
        holdout=settings["holdout"],
    )
    if info.class_names != predictor.info.class_names:
        raise UserError(
            f"the data has {info.num_classes} classes that are not the model's "
            f"{predictor.info.num_classes}: check --data-dir"
        )
    return info, images


if __name__ == "__main__":
    run(main)
