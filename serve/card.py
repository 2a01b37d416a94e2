"""What the demo says of its model, as Markdown; all of it from the checkpoint."""

import html
from collections.abc import Mapping
from typing import Any

from result import readable
from served import Served


def headline(served: Served) -> str:
    """The title, and how good the model is."""
    info = served.predictor.info
    return (
        f"# {_plain(served.title)}\n"
        f"Sorts pictures into {info.num_classes} classes. {_accuracy(served)}"
    )


def details(served: Served) -> str:
    """The model card."""
    predictor = served.predictor
    metadata = predictor.metadata
    run, model, info = metadata.run, metadata.model, metadata.dataset
    height, width, channels = info.image_shape
    rows = {
        "architecture": f"ResNet-{model['depth']}, width {model['width']}, shortcut "
        f"{model['shortcut']}, {model['dtype']}",
        "parameters": f"{run.parameters:,}",
        "data": f"{info.name} {info.version}, images of {height}x{width}x{channels}",
        "accuracy": _accuracy(served),
        "trained": f"{run.started}, on {run.device}",
        "by": run.command,
        "step": f"{predictor.step:,}",
        "temperature": f"{predictor.temperature:.4g}"
        + (" (none was fitted)" if predictor.temperature == 1 else ""),
        "versions": ", ".join(f"{k} {v}" for k, v in run.versions.items()),
    }
    lines = "\n".join(f"| {k} | {_plain(v)} |" for k, v in rows.items())
    names = ", ".join(_plain(readable(name)) for name in info.class_names)
    return f"| | |\n| --- | --- |\n{lines}\n\nThe classes: {names}."


def figures(report: Mapping[str, Any]) -> str:
    """The figures of an evaluation in a sentence."""
    return (
        f"On {report['n']:,} images of {_plain(report['dataset'])} "
        f"{_plain(report['split'])}: top-1 {_percent(report['top1'])}, top-5 "
        f"{_percent(report['top5'])}, loss {report['loss']:.4f}, calibration error "
        f"{_percent(report['ece'])}."
    )


def accuracies(report: Mapping[str, Any]) -> list[list[Any]]:
    """A row for each class: its name, its images, the share that is right."""
    return [
        [readable(row["name"]), row["count"], _percent(row["accuracy"])]
        for row in report["per_class"]
        if row["accuracy"] is not None
    ]


def _accuracy(served: Served) -> str:
    found = served.accuracy
    if found is None:
        return "Its accuracy was not measured."
    text = (
        f"Top-1 {_percent(found['top1'])}, top-5 {_percent(found['top5'])} on the "
        f"{found['images']:,} images of {_plain(found['split'])}, after epoch "
        f"{found['epoch']} of {found['epochs']}"
    )
    if found["selected"]:
        return f"{text}, which was chosen by the same images."
    return f"{text}."


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2f} %"


def _plain(text: str) -> str:
    """One line without markup, whoever wrote it."""
    return html.escape(" ".join(text.split())).replace("|", "&#124;")
