"""Evaluates a checkpoint of a run on a split of its data."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from jax_resnet import data
from jax_resnet.distributed import device
from jax_resnet.evaluation import report
from jax_resnet.evaluation.results import compare, evaluate
from jax_resnet.predictor import Predictor
from jax_resnet.runtime.errors import UserError
from jax_resnet.runtime.text import say


@dataclass(frozen=True)
class Evaluation:
    """The results of a model on a split, and the images they are of."""

    report: dict[str, Any]  # for JSON
    correct: Bool[np.ndarray, " n"]  # whether each image is classified correctly
    info: data.DatasetInfo
    split: data.Split


def evaluate_run(
    path: Path,
    split: str,
    *,
    checkpoint: str = "best",
    data_dir: str | None = None,
    batch_size: int | None = None,
    verbose: bool = True,
) -> Evaluation:
    """Evaluates a run directory or an exported folder on JAX's default device.

    The split is a TFDS expression or ``holdout``. ``verbose`` prints the main metrics.
    Raises UserError if there is no such model, or its data cannot be loaded.
    """
    started = time.monotonic()
    predictor = Predictor.open(path, checkpoint, batch_size=batch_size)
    metadata, name = predictor.metadata, device.describe(device.current())
    info, images = _load_split(predictor, split, data_dir)
    ready = time.monotonic()
    logits = predictor.logits(images.images)
    seconds = time.monotonic() - ready
    held_out = None
    if metadata.config["data"]["holdout"] and split != data.HOLDOUT:
        _, others = _load_split(predictor, data.HOLDOUT, data_dir)
        held_out = predictor.logits(others.images), others.labels
    as_json = {
        "title": metadata.run.title,
        "checkpoint": checkpoint,
        "step": predictor.step,
        "epoch": len(metadata.history),
        "selected_on": metadata.run.eval_name,
        "dataset": info.name,
        "split": split,
        "device": name,
        **evaluate(logits, images.labels, info, split=split, held_out=held_out),
    }
    if verbose:
        say(
            f"{metadata.run.title}, {checkpoint} checkpoint: epoch "
            f"{len(metadata.history)}, step {predictor.step}, selected on "
            f"{metadata.run.eval_name}"
        )
        say(
            f"{info.name} {split} on {name}: ready in {ready - started:.1f} s, "
            f"evaluated in {seconds:.1f} s"
        )
        print()
        print(report.render_headline(as_json), flush=True)
    return Evaluation(as_json, logits.argmax(axis=1) == images.labels, info, images)


def compare_runs(
    models: Sequence[tuple[str, Evaluation]], split: str
) -> dict[str, Any]:
    """Returns the JSON of a comparison of named models.

    Raises UserError if they were evaluated on different images.
    """
    names = [name for name, _ in models]
    first = models[0][1]
    for name, one in models:
        same_images = np.array_equal(one.split.images, first.split.images)
        if one.info != first.info or not same_images:
            raise UserError(
                f"{name} was evaluated on other images than {names[0]}: compare models "
                "of one data set"
            )
    return {
        "dataset": first.info.name,
        "split": split,
        "models": [{"workdir": name, **one.report} for name, one in models],
        **compare(names, [one.correct for _, one in models]),
    }


def _load_split(
    predictor: Predictor, split: str, data_dir: str | None
) -> tuple[data.DatasetInfo, data.Split]:
    settings = predictor.metadata.config["data"]
    info, images = data.load_kept_split(settings, split, data_dir)
    if info.class_names != predictor.info.class_names:
        raise UserError(
            f"the data has {info.num_classes} classes that are not the model's "
            f"{predictor.info.num_classes}: check --data-dir"
        )
    return info, images
