"""The demo's texts about its model, as Markdown. All figures are the checkpoint's."""

from collections.abc import Mapping
from typing import Any

from classifier import Classifier

from jax_resnet.data.labels import readable
from jax_resnet.reporting.markdown import code, plain, table
from jax_resnet.runtime.text import printable

# The goal of configs/resnet56.py. A model far below was not trained well.
_GOALS = {"cifar100": 0.73}
_FAR = 0.1
_NUMBERS = ("no", "one", "two", "three", "four", "five")


def headline(classifier: Classifier, report: Mapping[str, Any] | None) -> str:
    """Says what the model can do, for a visitor, after a warning if it is a bad one.

    ``report`` is of an evaluation, for a model whose training is not known.
    """
    predictor, accuracy = classifier.predictor, classifier.accuracy or report
    often = (
        "How often it is right was not measured."
        if accuracy is None
        else f"It is right {odds(accuracy['top1'])} ({_percent(accuracy['top1'])}) on "
        "pictures like those it learned from."
    )
    return (
        f"{_warning(predictor.info.name, accuracy)}"
        "# What is in the picture?\n"
        f"This model, {plain(classifier.title)}, knows {predictor.info.num_classes} "
        f"things. {often} "
        "Anything else gets a wrong answer."
    )


def knowledge(classifier: Classifier, report: Mapping[str, Any] | None) -> str:
    """Introduces the table of classes."""
    info = classifier.predictor.info
    groups = len(info.superclass_names)
    text = f"All {info.num_classes} things" + (
        f", in {groups} groups." if groups else "."
    )
    if report is None:
        return text
    images = plain("{dataset} {split}".format_map(report))
    return (
        f"{text} “Right” is the share of a thing's pictures that the model recognised. "
        f"Of all {report['n']:,} pictures ({images}) it recognised "
        f"{_percent(report['top1'])}, and for {_percent(report['top5'])} the right "
        "answer was among its first five."
    )


def classes(
    classifier: Classifier, report: Mapping[str, Any] | None
) -> tuple[list[str], list[list[str]]]:
    """Returns a table with a row for each class: its header, and its rows.

    The columns are the name, the accuracy where it was measured, and the superclass
    where there are some.
    """
    info = classifier.predictor.info
    columns = {"thing": [printable(readable(name)) for name in info.class_names]}
    if report:
        measured = {row["name"]: row["accuracy"] for row in report["per_class"]}
        accuracies = [measured.get(name) for name in info.class_names]
        columns["right"] = ["" if a is None else f"{100 * a:.0f} %" for a in accuracies]
    if info.superclass_of:
        names = [printable(readable(name)) for name in info.superclass_names]
        columns["group"] = [names[each] for each in info.superclass_of]
    rows = sorted(map(list, zip(*columns.values(), strict=True)))
    return list(columns), rows


def details(classifier: Classifier) -> str:
    """Returns the table of the model's properties."""
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
    return table(["property", "of this model"], list(rows.items()), left=2)


def odds(fraction: float) -> str:
    """Says a fraction in words, such as "about three times in four".

    It is off by 2.5 percentage points at most.
    """
    for total in (2, 3, 4, 5, 10, 20):
        times = round(fraction * total)
        if 0 < times < total and abs(times / total - fraction) <= 0.025:
            break
    if times == 0:
        return "less than 1 time in 20"
    if times == total:
        return "almost always"
    words = [_NUMBERS[n] if total <= 5 else str(n) for n in (times, total)]
    return f"about {words[0]} {'time' if times == 1 else 'times'} in {words[1]}"


def _warning(dataset: str, accuracy: Mapping[str, Any] | None) -> str:
    goal = _GOALS.get(dataset)
    if accuracy is None or goal is None or accuracy["top1"] > goal - _FAR:
        return ""
    return (
        f"> **Not well trained:** it is right {odds(accuracy['top1'])}. "
        f"The goal of a ResNet-56 is {odds(goal)}.\n\n"
    )


def _accuracy(classifier: Classifier) -> str:
    accuracy = classifier.accuracy
    if accuracy is None:
        return "not measured"
    text = (
        f"top-1 {_percent(accuracy['top1'])}, top-5 {_percent(accuracy['top5'])} on "
        f"the {accuracy['images']:,} images of {plain(accuracy['split'])}, after "
        f"epoch {accuracy['epoch']} of {accuracy['epochs']}"
    )
    if accuracy["selected"]:
        return f"{text}, which was selected on the same images"
    return text


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2f} %"
