"""The demo's texts about its model, as Markdown. All figures are the checkpoint's."""

import html
from collections.abc import Mapping
from typing import Any

from classifier import Classifier

from jax_resnet.data.labels import readable


def headline(classifier: Classifier) -> str:
    """Returns the title of the page, and the model's accuracy."""
    classes = classifier.predictor.info.num_classes
    return (
        f"# {_escape(classifier.title)}\n"
        f"Sorts pictures into {classes} classes. {_accuracy(classifier)}"
    )


def details(classifier: Classifier) -> str:
    """Returns the table of the model's properties, and its classes."""
    predictor = classifier.predictor
    metadata = predictor.metadata
    run, model, info = metadata.run, metadata.model, metadata.dataset
    height, width, channels = info.image_shape
    rows = {
        "architecture": f"ResNet-{model['depth']}, width {model['width']}, shortcut "
        f"{model['shortcut']}, {model['dtype']}",
        "parameters": f"{run.parameters:,}",
        "data": f"{info.name} {info.version}, images of {height}x{width}x{channels}",
        "accuracy": _accuracy(classifier),
        "trained": f"{run.started}, on {run.device}",
        "command": run.command,
        "step": f"{predictor.step:,}",
        "temperature": f"{predictor.temperature:.4g}",
        "versions": ", ".join(f"{k} {v}" for k, v in run.versions.items()),
    }
    lines = "\n".join(f"| {k} | {_escape(v)} |" for k, v in rows.items())
    names = ", ".join(_escape(readable(name)) for name in info.class_names)
    return f"| | |\n| --- | --- |\n{lines}\n\nThe classes: {names}."


def evaluation(report: Mapping[str, Any]) -> str:
    """Returns the figures of an evaluation report in one sentence."""
    return (
        f"On {report['n']:,} images of {_escape(report['dataset'])} "
        f"{_escape(report['split'])}: top-1 {_percent(report['top1'])}, top-5 "
        f"{_percent(report['top5'])}, loss {report['loss']:.4f}, calibration error "
        f"{_percent(report['ece'])}."
    )


def class_accuracies(report: Mapping[str, Any]) -> list[list[Any]]:
    """Returns a row for each class: name, number of images, accuracy."""
    return [
        [readable(row["name"]), row["count"], _percent(row["accuracy"])]
        for row in report["per_class"]
        if row["accuracy"] is not None
    ]


def _accuracy(classifier: Classifier) -> str:
    accuracy = classifier.accuracy
    if accuracy is None:
        return "Its accuracy was not measured."
    text = (
        f"Top-1 {_percent(accuracy['top1'])}, top-5 {_percent(accuracy['top5'])} on "
        f"the {accuracy['images']:,} images of {_escape(accuracy['split'])}, after "
        f"epoch {accuracy['epoch']} of {accuracy['epochs']}"
    )
    if accuracy["selected"]:
        return f"{text}, which was selected on the same images."
    return f"{text}."


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2f} %"


def _escape(text: str) -> str:
    """Returns one line without markup."""
    return html.escape(" ".join(text.split())).replace("|", "&#124;")
