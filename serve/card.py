"""The demo's texts about its model, as Markdown. All figures are the checkpoint's."""

from collections.abc import Mapping
from typing import Any

from classifier import Classifier

from jax_resnet.data.labels import readable
from jax_resnet.reporting.markdown import code, plain, table
from jax_resnet.runtime.text import printable


def headline(classifier: Classifier) -> str:
    """Returns the title of the page, and the model's accuracy."""
    classes = classifier.predictor.info.num_classes
    return (
        f"# {plain(classifier.title)}\n"
        f"Sorts pictures into {classes} classes. {_accuracy(classifier)}"
    )


def details(classifier: Classifier) -> str:
    """Returns the table of the model's properties, and its classes."""
    predictor = classifier.predictor
    metadata = predictor.metadata
    run, model, info = metadata.run, metadata.model, metadata.dataset
    height, width, channels = info.image_shape
    versions = ", ".join(f"{name} {v}" for name, v in run.versions.items())
    rows = {
        "architecture": f"ResNet-{model['depth']}, width {model['width']}, shortcut "
        f"{model['shortcut']}, {model['dtype']}",
        "parameters": f"{run.parameters:,}",
        "data": f"{plain(f'{info.name} {info.version}')}, images of "
        f"{height}x{width}x{channels}",
        "accuracy": _accuracy(classifier),
        "trained": plain(f"{run.started}, on {run.device}"),
        "command": code(run.command),
        "step": f"{predictor.step:,}",
        "temperature": f"{predictor.temperature:.4g}",
        "versions": plain(versions),
    }
    names = ", ".join(plain(readable(name)) for name in info.class_names)
    properties = table(["", ""], list(rows.items()), left=2)
    return f"{properties}\n\nThe classes: {names}."


def evaluation(report: Mapping[str, Any]) -> str:
    """Returns the figures of an evaluation report in one sentence."""
    images = plain("{dataset} {split}".format_map(report))
    return (
        f"On {report['n']:,} images of {images}: top-1 {_percent(report['top1'])}, "
        f"top-5 {_percent(report['top5'])}, loss {report['loss']:.4f}, calibration "
        f"error {_percent(report['ece'])}."
    )


def class_accuracies(report: Mapping[str, Any]) -> list[list[Any]]:
    """Returns a row for each class: name, number of images, accuracy."""
    return [
        [printable(readable(row["name"])), row["count"], _percent(row["accuracy"])]
        for row in report["per_class"]
        if row["accuracy"] is not None
    ]


def _accuracy(classifier: Classifier) -> str:
    accuracy = classifier.accuracy
    if accuracy is None:
        return "Its accuracy was not measured."
    text = (
        f"Top-1 {_percent(accuracy['top1'])}, top-5 {_percent(accuracy['top5'])} on "
        f"the {accuracy['images']:,} images of {plain(accuracy['split'])}, after "
        f"epoch {accuracy['epoch']} of {accuracy['epochs']}"
    )
    if accuracy["selected"]:
        return f"{text}, which was selected on the same images."
    return f"{text}."


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2f} %"
