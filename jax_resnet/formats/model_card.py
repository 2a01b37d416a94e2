"""Model cards for the Hugging Face Hub."""

from typing import Any

import yaml

from jax_resnet.checkpoint.history import EpochRecord
from jax_resnet.checkpoint.metadata import RunMetadata
from jax_resnet.checkpoint.model_folder import StoredModel
from jax_resnet.reporting.markdown import code, plain
from jax_resnet.runtime.text import printable

# The Hub's names of data sets that have other names in TFDS.
_HUB_DATASETS = {"cifar10": "uoft-cs/cifar10", "cifar100": "uoft-cs/cifar100"}


def render(model: StoredModel) -> str:
    """Returns the content of ``README.md``: front matter in YAML, then Markdown.

    The accuracy is the one that the run measured after the model's epoch. A model from
    elsewhere has none.
    """
    metadata = model.metadata
    info, architecture, run = metadata.dataset, metadata.model, metadata.run
    epoch = metadata.epoch_at(model.step)
    height, width, channels = info.image_shape
    fields = _front_matter(metadata, epoch)
    front = yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)
    return f"""---
{front}---

# {plain(run.title)}

ResNet-{architecture["depth"]} of width {architecture["width"]}, with the shortcut
`{architecture["shortcut"]}` and {run.parameters:,} parameters, for images of
{height}x{width} pixels and {channels} channels in {info.num_classes} classes:
{code(info.name)} {plain(info.version)}. Made with `jax_resnet`.

## Accuracy

{accuracy(model)}

## Use

```python
from jax_resnet.predictor import Predictor
model = Predictor.open("DIR")  # this folder: hf download USER/NAME --local-dir DIR
probabilities = model.predict(images)  # uint8 [n, {height}, {width}, {channels}]
```

The model normalises the images and divides its logits by the temperature
{model.temperature:.4g}. The class names are in `model.info.class_names`. `config.json`
has the config of the run, every epoch, and SHA-256 digests that reveal damage.

## Training

{code(run.command)}

Started {plain(run.started)} on {plain(run.device)}; {plain(run.platform)}.
"""


def _front_matter(metadata: RunMetadata, epoch: EpochRecord | None) -> dict[str, Any]:
    info, run = metadata.dataset, metadata.run
    hub_name = _HUB_DATASETS.get(info.name)
    fields: dict[str, Any] = {
        "license": "apache-2.0",
        "library_name": "jax_resnet",
        "pipeline_tag": "image-classification",
        "tags": ["jax", "flax", "resnet", "image-classification", info.name],
    }
    if hub_name:
        fields["datasets"] = [hub_name]
    if epoch:
        dataset = {
            "name": info.name,
            "type": hub_name or info.name,
            "split": run.eval_name,
        }
        which = _which(metadata, epoch)
        metrics = [
            {"type": "accuracy", "name": f"{name} accuracy, {which}", "value": value}
            for name, value in (
                ("top-1", epoch["val_top1"]),
                ("top-5", epoch["val_top5"]),
            )
        ]
        task = {"type": "image-classification"}
        result = {"task": task, "dataset": dataset, "metrics": metrics}
        fields["model-index"] = [{"name": printable(run.title), "results": [result]}]
    return fields


def accuracy(model: StoredModel) -> str:
    """Says how accurate the model is, in Markdown, and on which images."""
    metadata, run = model.metadata, model.metadata.run
    epoch = metadata.epoch_at(model.step)
    if epoch is None:
        return "Not measured: the model is not from the end of an epoch of a known run."
    text = (
        f"Top-1 {100 * epoch['val_top1']:.2f} %, top-5 {100 * epoch['val_top5']:.2f} % "
        f"on the {run.n_eval:,} images of {code(run.eval_name)}, after epoch "
        f"{epoch['epoch']} of {run.epochs} ({plain(_which(metadata, epoch))})."
    )
    if metadata.was_selected(epoch):
        text += (
            "\nThe epoch was selected on the images that it is measured on, so these "
            "figures are optimistic."
        )
    return text


def _which(metadata: RunMetadata, epoch: EpochRecord) -> str:
    if epoch["epoch"] == metadata.run.epochs:
        return "last epoch"
    if metadata.was_selected(epoch):
        return f"epoch selected on {metadata.run.eval_name}"
    return "neither the best epoch nor the last"
