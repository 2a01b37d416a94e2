"""The card of a model, as the Hugging Face Hub shows and indexes it."""

import re
from typing import Any

import yaml

from jax_resnet.checkpoint.history import EpochRecord, best_epoch
from jax_resnet.checkpoint.model_folder import StoredModel

# The Hub's names of the data sets that TFDS has under shorter ones.
_HUB_DATASETS = {"cifar10": "uoft-cs/cifar10", "cifar100": "uoft-cs/cifar100"}


def render(model: StoredModel) -> str:
    """Returns ``README.md``: front matter in YAML, then Markdown.

    The accuracy is the one that the run measured at the end of the epoch that the
    model is of; a model of an unfinished epoch, or from elsewhere, has none.
    """
    metadata = model.metadata
    info, architecture, run = metadata.dataset, metadata.model, metadata.run
    title = _plain(run.title)
    measured = metadata.epoch_at(model.step)
    height, width, channels = info.image_shape
    body = f"""# {title}

ResNet-{architecture["depth"]} of width {architecture["width"]}, with the shortcut
`{architecture["shortcut"]}` and {run.parameters:,} parameters, for images of
{height}x{width} pixels and {channels} channels in {info.num_classes} classes: TFDS
`{_plain(info.name)}` {_plain(info.version)}. Made with `jax_resnet`.

## Accuracy

{_accuracy(model, measured)}

## Use

```python
from jax_resnet.predict import Predictor
model = Predictor.open("DIR")  # this folder: hf download USER/NAME --local-dir DIR
probabilities = model.predict(images)  # uint8 [n, {height}, {width}, {channels}]
```

Normalisation is part of the model, and so is the temperature {model.temperature:.4g},
by which the logits are divided for probabilities. `model.info.class_names` has the
classes. `config.json` has the metadata of the run, with its config and every epoch, and
the SHA-256 digests by which damage is noticed.

## Training

`{_plain(run.command).replace("`", "'")}`

Started {_plain(run.started)} on {_plain(run.device)}; {_plain(run.platform)}.
"""
    front = yaml.safe_dump(
        _front_matter(model, measured), sort_keys=False, allow_unicode=True
    )
    return f"---\n{front}---\n\n{body}"


def _front_matter(model: StoredModel, measured: EpochRecord | None) -> dict[str, Any]:
    info, run = model.metadata.dataset, model.metadata.run
    hub_name = _HUB_DATASETS.get(info.name)
    fields: dict[str, Any] = {
        "license": "apache-2.0",
        "library_name": "jax_resnet",
        "pipeline_tag": "image-classification",
        "tags": ["jax", "flax", "resnet", "image-classification", info.name],
    }
    if hub_name:
        fields["datasets"] = [hub_name]
    if measured:
        figures = {"top-1": "val_top1", "top-5": "val_top5"}
        result = {
            "task": {"type": "image-classification"},
            "dataset": {
                "name": info.name,
                "type": hub_name or info.name,
                "split": run.eval_name,
            },
            "metrics": [
                {
                    "type": "accuracy",
                    "name": f"{name} accuracy, {_selection(model, measured)}",
                    "value": measured[key],  # type: ignore[literal-required]
                }
                for name, key in figures.items()
            ],
        }
        fields["model-index"] = [{"name": _plain(run.title), "results": [result]}]
    return fields


def _selection(model: StoredModel, measured: EpochRecord) -> str:
    metadata = model.metadata
    if measured["epoch"] == metadata.run.epochs:
        return "last epoch"
    if measured == best_epoch(metadata.history):
        return f"epoch selected on {_plain(metadata.run.eval_name)}"
    return f"epoch {measured['epoch']} of {metadata.run.epochs}"


def _accuracy(model: StoredModel, measured: EpochRecord | None) -> str:
    run = model.metadata.run
    if measured is None:
        return (
            "Not measured: the model is not of the end of an epoch of a recorded run."
        )
    text = (
        f"Top-1 {100 * measured['val_top1']:.2f} %, top-5 "
        f"{100 * measured['val_top5']:.2f} % on the {run.n_eval:,} images of "
        f"`{_plain(run.eval_name)}`, after epoch {measured['epoch']} of {run.epochs}: "
        f"{_selection(model, measured)}."
    )
    if "selected" in _selection(model, measured):
        text += (
            "\nThe split that selected the epoch is the one that it is measured on, so "
            "that these figures are optimistic."
        )
    return text


def _plain(text: str) -> str:
    """One line without markup, whoever wrote it."""
    return " ".join(re.sub(r"[<>\[\]|]", "", text).split())
