"""The Markdown pages of an evaluation and of a comparison, rendered from their JSON."""

from collections.abc import Mapping, Sequence
from typing import Any

from jax_resnet.reporting.markdown import code, picture, plain, table

Report = Mapping[str, Any]


def render(report: Report, pictures: str) -> str:
    """Returns the page of one model, whose pictures are in a folder beside it."""
    calibration = report["calibration"]
    confused = [[plain(a), plain(b), str(n)] for a, b, n in report["most_confused"]]
    parts = [
        "# " + plain("{title} on {dataset} {split}".format_map(report)),
        f"Checkpoint {plain(report['checkpoint'])}: epoch {report['epoch']}, step "
        f"{report['step']}. {_selection(report)} {report['n']:,} images, on "
        f"{plain(report['device'])}.",
        render_headline(report),
        "The intervals are bootstrapped over the images: they cover other test images, "
        "not other seeds.",
        "## Confidence",
        f"Temperature {calibration['temperature']:.4f}, fitted on "
        f"{plain(calibration['fitted_on'])}.",
        picture("Reliability", f"{pictures}/reliability.png"),
        "## Classes",
        _accuracies("superclass", report["per_superclass"]),
        table(["class", "most often confused with", "images"], confused),
        picture("Confusion", f"{pictures}/confusion.png"),
        _accuracies("class", report["per_class"]),
        "## The most confident mistakes",
        picture("Mistakes", f"{pictures}/mistakes.png"),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def render_headline(report: Report) -> str:
    """Returns the table of the main metrics."""
    calibration = report["calibration"]
    low, high = report["intervals"]["loss"]
    rows = [
        ["top-1", _with_interval(report, "top1")],
        ["top-5", _with_interval(report, "top5")],
        ["loss", f"{report['loss']:.4f} ({low:.4f} to {high:.4f})"],
        ["loss, temperature-scaled", f"{calibration['loss_after']:.4f}"],
        ["calibration error", _percent(report["ece"])],
        ["calibration error, temperature-scaled", _percent(calibration["ece_after"])],
    ]
    if report["superclass_top1"] is not None:
        rows.append(["superclass top-1", _percent(report["superclass_top1"])])
    return table(["", f"result ({_level(report)} interval)"], rows)


def render_comparison(comparison: Report) -> str:
    """Returns the page of several models on the same images."""
    models, level = comparison["models"], _level(comparison)
    over_models = comparison["top1_over_models"]
    low, high = map(_percent, over_models["interval"])
    header = [f"top-1 ({level})", "top-5", "loss", "calibration error"]
    rows = [
        [
            plain(model["workdir"]),
            str(model["step"]),
            _with_interval(model, "top1"),
            _percent(model["top5"]),
            f"{model['loss']:.4f}",
            _percent(model["ece"]),
        ]
        for model in models
    ]
    tests = [
        [
            plain(test["first"]),
            plain(test["second"]),
            str(test["only_first"]),
            str(test["only_second"]),
            f"{test['p_value']:.3g}",
        ]
        for test in comparison["paired_tests"]
    ]
    parts = [
        f"# {len(models)} models on "
        + plain(f"{comparison['dataset']} {comparison['split']}"),
        table(["model", "step", *header], rows),
        f"Mean {_percent(over_models['mean'])}, standard deviation "
        f"{_percent(over_models['standard_deviation'])} over {len(models)} models; "
        f"{level} interval of the mean (Student) {low} to {high}. This is the spread "
        "over seeds only if nothing else differs.",
        "McNemar's exact test on the same images:",
        table(["first", "second", "only first correct", "only second", "p"], tests),
    ]
    return "\n\n".join(parts) + "\n"


def _selection(report: Report) -> str:
    if report["checkpoint"] == "best" and report["selected_on"] == report["split"]:
        return (
            f"It was selected on {code(report['split'])}, the split it is evaluated "
            "on, so the results are optimistic."
        )
    return f"The run selects its best checkpoint on {code(report['selected_on'])}."


def _accuracies(title: str, groups: Sequence[Mapping[str, Any]]) -> str:
    known = [group for group in groups if group["accuracy"] is not None]
    ranked = sorted(known, key=lambda group: -group["accuracy"])
    rows = [
        [plain(g["name"]), _percent(g["accuracy"]), str(g["count"])] for g in ranked
    ]
    return table([title, "top-1", "images"], rows) if rows else ""


def _with_interval(report: Report, name: str) -> str:
    low, high = map(_percent, report["intervals"][name])
    return f"{_percent(report[name])} ({low} to {high})"


def _level(report: Report) -> str:
    return f"{100 * report['interval_level']:.0f} %"


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2f} %"
