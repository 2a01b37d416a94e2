"""Evaluates a checkpoint: ``python -m jax_resnet.evaluate --workdir runs/resnet56``."""

import argparse
import itertools
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jax_resnet import data
from jax_resnet.checkpoint.model_folder import is_model_folder
from jax_resnet.checkpoint.temperature import save_temperature
from jax_resnet.distributed import device
from jax_resnet.evaluation import robustness
from jax_resnet.evaluation.assessment import Assessment, assess
from jax_resnet.evaluation.figures import draw_all
from jax_resnet.evaluation.metrics import mean_log_probabilities
from jax_resnet.evaluation.report import render, render_comparison
from jax_resnet.evaluation.statistics import LEVEL, mcnemar, over_seeds
from jax_resnet.evaluation.text import format_evaluation
from jax_resnet.predict import Predictor
from jax_resnet.runtime.command_line import Parser, run
from jax_resnet.runtime.errors import UserError
from jax_resnet.runtime.files import write_atomically


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = Parser(
        prog="python -m jax_resnet.evaluate",
        description="Restores checkpoints and reports how good they are on a split.",
    )
    parser.add_argument(
        "--workdir",
        required=True,
        type=Path,
        nargs="+",
        help="a run directory; several are compared",
    )
    parser.add_argument(
        "--checkpoint", default="best", help="best (the default), latest or a step"
    )
    parser.add_argument(
        "--split",
        default="test",
        help='a TFDS expression such as "train[:10%%]", or "holdout" for the images '
        "that the run held out",
    )
    parser.add_argument(
        "--output",
        type=Path,
        help="the report as JSON, with a page and pictures beside it; default "
        "WORKDIR/evaluation-SPLIT.json, or comparison-SPLIT.json for several",
    )
    parser.add_argument(
        "--tta",
        choices=["flip"],
        help="also average over the mirror image; a row apart",
    )
    parser.add_argument(
        "--corruptions",
        type=int,
        metavar="N",
        help="also under 5 corruptions of 5 strengths each, of the first N images",
    )
    parser.add_argument("--data-dir", help="prepared data; default as in training")
    parser.add_argument(
        "--batch-size", type=int, help="images in a call; default what is fast"
    )
    parser.add_argument("--device", default="auto", help="auto, gpu or cpu")
    options = parser.parse_args(arguments)
    for name in ("batch_size", "corruptions"):
        if (value := getattr(options, name)) is not None and value < 1:
            option = name.replace("_", "-")
            raise UserError(f"--{option} must be at least 1, not {value}")

    chosen = device.select(options.device, "--device")
    device.cache_compilations("", chosen)
    if len(options.workdir) == 1:
        return _report(options, chosen)
    return _compare(options, chosen)


@dataclass(frozen=True)
class _Evaluated:
    """A model and what was found out about it."""

    report: dict[str, Any]
    assessment: Assessment
    logits: np.ndarray
    info: data.DatasetInfo
    images: data.Split


def _report(options: argparse.Namespace, chosen: jax.Device) -> int:
    (workdir,) = options.workdir
    output = options.output or workdir / f"evaluation-{_slug(options.split)}.json"
    # A run that lies where it cannot be written to is worth evaluating all the same.
    writable = _check_writable(output, required=options.output is not None)
    found = _evaluate(workdir, options, chosen)
    if not writable:
        print(f"\nnot written, as {output.parent} is read-only; --output names a file")
        return 0
    pictures = output.with_suffix("")
    write_atomically(output, _json(found.report))
    if output.is_file():
        for name, picture in draw_all(
            found.assessment, found.images.images, found.info
        ).items():
            pictures.mkdir(exist_ok=True)
            write_atomically(pictures / name, picture)
        page = render(found.report, pictures.name)
        write_atomically(output.with_suffix(".md"), page.encode())
        print(f"\nwritten to {output}, a page to {output.with_suffix('.md')}")
    # An exported folder is sealed, with the temperature that it had.
    if os.access(workdir, os.W_OK) and not is_model_folder(workdir):
        calibration = found.assessment.calibration
        save_temperature(
            workdir,
            step=found.report["step"],
            temperature=calibration.temperature,
            fitted_on=calibration.fitted_on,
        )
    return 0


def _compare(options: argparse.Namespace, chosen: jax.Device) -> int:
    output = options.output or Path(f"comparison-{_slug(options.split)}.json")
    _check_writable(output, required=True)
    models = []
    for workdir in options.workdir:
        print(f"== {workdir}")
        models.append(_evaluate(workdir, options, chosen))
        print()
    first = models[0]
    for model, workdir in zip(models, options.workdir, strict=True):
        if model.info != first.info or not np.array_equal(
            model.images.images, first.images.images
        ):
            raise UserError(
                f"{workdir} was evaluated on other images than {options.workdir[0]}: "
                "compare models of one data set"
            )
    tests = [
        {
            "first": str(options.workdir[i]),
            "second": str(options.workdir[j]),
            **vars(mcnemar(models[i].assessment.right, models[j].assessment.right)),
        }
        for i, j in itertools.combinations(range(len(models)), 2)
    ]
    mean, deviation, interval = over_seeds([m.report["top1"] for m in models])
    comparison = {
        "dataset": first.info.name,
        "split": options.split,
        "interval_level": LEVEL,
        "models": [
            {"workdir": str(workdir), **model.report}
            for workdir, model in zip(options.workdir, models, strict=True)
        ],
        "top1_over_models": {
            "mean": mean,
            "standard_deviation": deviation,
            "interval": [interval.low, interval.high] if interval else None,
        },
        # One more model to the eye, and none to any figure above.
        "ensemble": {
            "members": len(models),
            "probabilities": "mean of softmax(logits), without temperatures",
            **_together(models, options.split).as_dict(),
        },
        "paired_tests": tests,
    }
    page = render_comparison(comparison)
    print(page)
    write_atomically(output, _json(comparison))
    if output.is_file():
        write_atomically(output.with_suffix(".md"), page.encode())
    print(f"written to {output}")
    return 0


def _together(models: Sequence[_Evaluated], split: str) -> Assessment:
    """The models' mean probabilities, assessed like the logits of one.

    Without temperatures, like the figures of each model: they may have been fitted
    on the very images.
    """
    mean = mean_log_probabilities([model.logits for model in models])
    return assess(mean, models[0].images.labels, models[0].info, split=split)


def _evaluate(
    workdir: Path, options: argparse.Namespace, chosen: jax.Device
) -> _Evaluated:
    started = time.monotonic()
    predictor = Predictor.open(
        workdir, options.checkpoint, batch_size=options.batch_size
    )
    metadata = predictor.metadata
    settings = metadata.config["data"]

    def load(split: str) -> tuple[data.DatasetInfo, data.Split]:
        return data.load_split(
            settings["name"],
            split,
            data_dir=options.data_dir or settings["dir"] or None,
            cache_dir=settings["cache_dir"] or None,
            train_split=settings["train_split"],
            holdout=settings["holdout"],
        )

    info, images = load(options.split)
    if info.class_names != predictor.info.class_names:
        raise UserError(
            f"the data has {info.num_classes} classes that are not the model's "
            f"{predictor.info.num_classes}: check --data-dir"
        )
    ready = time.monotonic()
    logits = predictor.logits(images.images)
    seconds = time.monotonic() - ready

    epoch = len(metadata.history)
    print(
        f"{metadata.run.title}, {options.checkpoint} checkpoint: epoch {epoch}, "
        f"step {predictor.step}, selected on {metadata.run.eval_name}\n"
        f"{info.name} {options.split} on {device.describe(chosen)}: ready in "
        f"{ready - started:.1f} s, evaluated in {seconds:.1f} s\n"
    )
    held_out = None
    if settings["holdout"] and options.split != data.HOLDOUT:
        _, others = load(data.HOLDOUT)
        held_out = predictor.logits(others.images), others.labels
    assessment = assess(
        logits, images.labels, info, split=options.split, held_out=held_out
    )
    print(format_evaluation(assessment.evaluation), flush=True)
    report = {
        "title": metadata.run.title,
        "checkpoint": options.checkpoint,
        "step": predictor.step,
        "epoch": epoch,
        "selected_on": metadata.run.eval_name,
        "dataset": info.name,
        "split": options.split,
        "device": device.describe(chosen),
        **assessment.as_dict(),
    }
    if options.tta:
        report["tta_flip"] = robustness.flipped(predictor, images, logits)
    if options.corruptions:
        report["corruptions"] = robustness.corrupted(
            predictor, images, min(options.corruptions, len(images.labels))
        )
    return _Evaluated(report, assessment, logits, info, images)


def _check_writable(output: Path, *, required: bool) -> bool:
    """Now rather than after minutes of evaluation."""
    writable = os.access(output if output.exists() else output.parent, os.W_OK)
    if required and not writable:
        raise UserError(f"cannot write {output}: name another file with --output")
    return writable


def _json(report: dict[str, Any]) -> bytes:
    return (json.dumps(report, indent=2, allow_nan=False) + "\n").encode()


def _slug(split: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in split).strip("_")


if __name__ == "__main__":
    run(main)
