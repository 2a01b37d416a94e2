"""Evaluates a checkpoint: ``python -m jax_resnet.evaluate --workdir runs/resnet56``."""

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

from jax_resnet import data, device, metrics
from jax_resnet.command import Parser, run
from jax_resnet.errors import UserError
from jax_resnet.predict import Predictor
from jax_resnet.report import write_atomically


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = Parser(
        prog="python -m jax_resnet.evaluate",
        description="Restores a checkpoint and reports its accuracy on a split.",
    )
    parser.add_argument("--workdir", required=True, type=Path, help="a run directory")
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
        help="the report as JSON; default WORKDIR/evaluation-SPLIT.json",
    )
    parser.add_argument("--data-dir", help="prepared data; default as in training")
    parser.add_argument("--batch-size", type=int, default=500)
    parser.add_argument("--device", default="auto", help="auto, gpu or cpu")
    options = parser.parse_args(arguments)
    if options.batch_size < 1:
        raise UserError(f"--batch-size must be at least 1, not {options.batch_size}")

    output = (
        options.output or options.workdir / f"evaluation-{_slug(options.split)}.json"
    )
    chosen = device.select(options.device, "--device")
    device.cache_compilations("", chosen)
    started = time.monotonic()
    predictor = Predictor.restore(
        options.workdir, options.checkpoint, batch_size=options.batch_size
    )
    # Now rather than after minutes of evaluation. A run that lies where it cannot be
    # written to is worth evaluating all the same.
    writable = os.access(output if output.exists() else output.parent, os.W_OK)
    if options.output and not writable:
        raise UserError(f"cannot write {output}: name another file with --output")
    record = predictor.record
    settings = record.config["data"]
    info, split = data.load_split(
        settings["name"],
        options.split,
        data_dir=options.data_dir or settings["dir"] or None,
        cache_dir=settings["cache_dir"] or None,
        train_split=settings["train_split"],
        holdout=settings["holdout"],
    )
    if info.class_names != predictor.info.class_names:
        raise UserError(
            f"the data has {info.num_classes} classes that are not the model's "
            f"{predictor.info.num_classes}: check --data-dir"
        )
    ready = time.monotonic()
    logits = predictor.logits(split.images)
    evaluation = metrics.evaluate(logits, split.labels, info=info)
    seconds = time.monotonic() - ready

    epoch = len(record.history)
    report = {
        "checkpoint": options.checkpoint,
        "step": predictor.step,
        "epoch": epoch,
        "selected_on": record.run.eval_name,
        "dataset": info.name,
        "split": options.split,
        "device": device.describe(chosen),
        **evaluation.as_dict(),
    }
    print(
        f"{record.run.title}, {options.checkpoint} checkpoint: epoch {epoch}, "
        f"step {predictor.step}, selected on {record.run.eval_name}\n"
        f"{info.name} {options.split} on {device.describe(chosen)}: ready in "
        f"{ready - started:.1f} s, evaluated in {seconds:.1f} s\n"
    )
    print(metrics.format_evaluation(evaluation))
    if writable:
        write_atomically(output, (json.dumps(report, indent=2) + "\n").encode())
        print(f"\nwritten to {output}")
    else:
        print(f"\nnot written, as {output.parent} is read-only; --output names a file")
    return 0


def _slug(split: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in split).strip("_")


if __name__ == "__main__":
    run(main)
