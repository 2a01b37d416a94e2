"""Fine-tuning against the same steps from scratch, on classes of CIFAR-100.

    python benchmarks/finetuning.py

A ResNet-20 learns 80 of the classes. Models of the other 20 start from it, or from
random weights, and train by one recipe. The other 20 are every fifth class by name, so
that most of them have relatives among the 80. All runs are the program's own; what is
complete in the workdir is not trained again.
"""

import argparse
import os
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tables
from arguments import add_output, check_output
from tqdm import tqdm

import jax_resnet
from jax_resnet import config, data
from jax_resnet.checkpoint.history import installed_versions
from jax_resnet.runtime.command_line import Parser, run
from jax_resnet.training.task import Result

RECIPE = {
    "augment.transforms": ("random_crop", "random_flip", "normalize"),
    "data.name": "arrays",
    "optimizer.learning_rate": 0.05,
    "optimizer.nesterov": True,
    "optimizer.warmup_epochs": 0.5,
    "train.batch_size": 32,
}
SCRATCH = "random weights"
# The frozen parts of the models that start from the one of 80 classes.
FROZEN = {
    "the model of 80 classes": "",
    "the same, with stem and stage1 frozen": "stem,stage1",
    "the same, with all but the head frozen": "stem,stage1,stage2,stage3",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns 0."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    chosen = _parse(arguments)
    load = os.getloadavg()[0]
    workdir = Path(chosen.workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    numbers = write_data(workdir, chosen.source_images, chosen.images)
    jobs = [(name, seed) for seed in range(chosen.seeds) for name in (SCRATCH, *FROZEN)]
    progress = tqdm(total=1 + len(jobs), unit="run", disable=None)
    source = _fit(workdir, "source", 0, chosen.source_epochs)
    progress.update()
    results: dict[str, list[float]] = {name: [] for name, _ in jobs}
    for name, seed in jobs:
        fields = {}
        if name != SCRATCH:
            fields["train.initial_model"] = str(source.workdir)
            fields["optimizer.frozen"] = FROZEN[name]
        results[name].append(_top1(_fit(workdir, name, seed, chosen.epochs, fields)))
        progress.update()
    progress.close()
    work = [
        f"Work: ResNet-20, float32; a model of 80 classes of CIFAR-100 from "
        f"{numbers['source']}, {chosen.source_epochs} epochs, reaches "
        f"{100 * _top1(source):.2f} % top-1 on the test images of its classes; models "
        f"of the other 20 classes from {numbers['target']}, {chosen.epochs} epochs",
        f"Top-1 (%) of the last epoch on the test images of the 20 classes; the mean "
        f"and each of n = {chosen.seeds} seeds; the model of 80 classes is one",
    ]
    heading = tables.heading(
        "finetuning.py", arguments, work, load=load, versions=installed_versions()
    )
    rows = [
        [name, f"{100 * statistics.fmean(top1):.2f}", _listed(top1)]
        for name, top1 in results.items()
    ]
    columns = ["the 20 classes start from", "top-1, mean", "each seed"]
    report = f"{heading}\n\n{tables.table(columns, rows)}\n"
    tables.write(report, chosen.output)
    print(report, end="", flush=True)
    return 0


def write_data(workdir: Path, source_images: int, images: int) -> dict[str, str]:
    """Writes ``source.npz`` of 80 classes and ``target.npz`` of 20 to the workdir.

    They have so many training images, and all test images. Returns the numbers of
    both, in words.
    """
    dataset = data.load("cifar100", data_dir=None)
    names = np.asarray(dataset.info.class_names)
    is_target = np.arange(len(names)) % 5 == 4
    numbers = {}
    for name, chosen, count in (
        ("source", ~is_target, source_images),
        ("target", is_target, images),
    ):
        new_label = np.cumsum(chosen) - 1
        arrays: dict[str, Any] = {}
        for split, part in (("train", dataset.train), ("test", dataset.evaluation)):
            own = part.select(chosen[part.labels])
            rows = slice(count if split == "train" else None)
            arrays[f"{split}_images"] = own.images[rows]
            arrays[f"{split}_labels"] = new_label[own.labels[rows]]
        np.savez(workdir / f"{name}.npz", **arrays, class_names=names[chosen])
        n_train, n_test = (len(arrays[f"{s}_labels"]) for s in ("train", "test"))
        numbers[name] = f"{n_train:,} training and {n_test:,} test images"
    return numbers


def _fit(
    workdir: Path, name: str, seed: int, epochs: int, fields: Mapping[str, str] = {}
) -> Result:
    file = "source" if name == "source" else "target"
    values = {
        **RECIPE,
        **fields,
        "seed": seed,
        "data.dir": workdir / f"{file}.npz",
        "train.epochs": epochs,
    }
    overrides = [f"--config.{field}={value}" for field, value in values.items()]
    folder = f"{name.replace(' ', '-').replace(',', '')}-{seed}"
    result = jax_resnet.fit(config.load("resnet20", overrides), workdir / folder)
    if result.stopped_by is not None:
        raise SystemExit(130)
    return result


def _top1(result: Result) -> float:
    assert result.last is not None
    return result.last["val_top1"]


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{100 * value:.2f}" for value in values)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = Parser(
        prog="python benchmarks/finetuning.py",
        description="Compares fine-tuning to new classes with training from scratch.",
    )
    for option, default in (
        ("--source-images", 16_000),
        ("--source-epochs", 3),
        ("--images", 2000),
        ("--epochs", 4),
        ("--seeds", 2),
    ):
        parser.add_argument(
            option, type=int, default=default, help=f"default {default:,}"
        )
    folder = "runs/finetuning"
    parser.add_argument("--workdir", default=folder, help=f"default {folder}")
    add_output(parser)
    chosen = parser.parse_args(arguments)
    check_output(chosen)
    return chosen


if __name__ == "__main__":
    run(main)
