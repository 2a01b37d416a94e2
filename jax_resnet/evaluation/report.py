"""The report of an evaluation as Markdown, made of the report in JSON alone."""

from collections.abc import Mapping, Sequence
from typing import Any

from jax_resnet.reporting.markdown import table

Report = Mapping[str, Any]


def render(report: Report, pictures: str) -> str:
    """The page of one model.

    Args:
        report: as it goes to the JSON file.
        pictures: the folder of the pictures, as seen from the page.
    """
    split, level = report["split"], f"{100 * report['interval_level']:.0f} %"
    parts = [
        f"# {report['title']} on {report['dataset']} {split}",
        f"Checkpoint {report['checkpoint']}: epoch {report['epoch']}, step "
        f"{report['step']}. {_selection(report)} {report['n']:,} images, on "
        f"{report['device']}.",
        _figures(report, level),
        f"Intervals: {level}, bootstrap over the images. They say how the figure would "
        "vary with other test images, not with other seeds.",
        "## Confidence",
        f"Temperature {report['calibration']['temperature']:.4f}, fitted on "
        f"{report['calibration']['fitted_on']}.",
        f"![Reliability]({pictures}/reliability.png)",
        _risks(report),
        f"![Risk by coverage]({pictures}/risk-coverage.png)",
    ]
    if corruptions := report.get("corruptions"):
        parts += ["## Corruptions", *_corruptions(corruptions)]
    parts += ["## Classes"]
    if report["per_superclass"]:
        parts += [_accuracies("superclass", report["per_superclass"])]
    parts += [
        table(
            ["class", "most often taken for", "images"],
            [[a, b, str(count)] for a, b, count in report["most_confused"]],
        ),
        f"![Confusion]({pictures}/confusion.png)",
        _accuracies("class", report["per_class"]),
        "## The most confident mistakes",
        f"![Mistakes]({pictures}/mistakes.png)",
    ]
    return "\n\n".join(parts) + "\n"


def render_comparison(comparison: Report) -> str:
    """The page of several models on the same images."""
    level = f"{100 * comparison['interval_level']:.0f} %"
    models = [
        [model["workdir"], str(model["step"]), *_brief(model)]
        for model in comparison["models"]
    ]
    ensemble = comparison["ensemble"]
    tests = [
        [
            test["first"],
            test["second"],
            str(test["only_first"]),
            str(test["only_second"]),
            f"{test['p_value']:.3g}",
        ]
        for test in comparison["paired_tests"]
    ]
    seeds = comparison["top1_over_models"]
    spread = (
        f"Mean {_percent(seeds['mean'])}, standard deviation "
        f"{_percent(seeds['standard_deviation'])} over {len(models)} models"
    )
    if seeds["interval"]:
        low, high = map(_percent, seeds["interval"])
        spread += f"; {level} interval of the mean (Student) {low} to {high}"
    figures = [f"top-1 ({level})", "top-5", "loss", "calibration error"]
    test_header = ["first", "second", "first alone right", "second alone right", "p"]
    parts = [
        f"# {len(models)} models on {comparison['dataset']} {comparison['split']}",
        table(["model", "step", *figures], models),
        spread + ". It speaks of seeds only if the models differ in nothing else.",
        "McNemar's exact test on the same images:",
        table(test_header, tests),
        "## The ensemble, no single model",
        table(["", *figures], [[f"all {len(models)} together", *_brief(ensemble)]]),
        f"Its probabilities are the {ensemble['probabilities']}; it takes the work of "
        "all of them.",
    ]
    return "\n\n".join(parts) + "\n"


def _brief(report: Report) -> list[str]:
    return [
        _with_interval(report, "top1"),
        _percent(report["top5"]),
        f"{report['loss']:.4f}",
        _percent(report["ece"]),
    ]


def _figures(report: Report, level: str) -> str:
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
    if flipped := report.get("tta_flip"):
        top1 = f"{_percent(flipped['top1'])}, loss {flipped['loss']:.4f}"
        rows.append(["*top-1 with the mirror image too (not the headline)*", top1])
    return table(["", f"figure ({level} interval)"], rows)


def _selection(report: Report) -> str:
    if report["checkpoint"] == "best" and report["selected_on"] == report["split"]:
        return (
            f"It was selected on `{report['split']}`, the split it is measured on, and "
            "is therefore optimistic."
        )
    return f"The run selects on `{report['selected_on']}`."


def _risks(report: Report) -> str:
    rows = [
        [f"{100 * float(coverage):.0f} %", _percent(risk)]
        for coverage, risk in report["risk_at_coverage"].items()
    ]
    return table(["answered, the most confident first", "of them wrong"], rows)


def _corruptions(corruptions: Mapping[str, Any]) -> list[str]:
    strengths = next(iter(corruptions["top1"].values()))
    rows = [
        [name, *map(_percent, row), _percent(sum(row) / len(row))]
        for name, row in corruptions["top1"].items()
    ]
    header = ["", *(f"strength {i + 1}" for i in range(len(strengths))), "mean"]
    return [
        table(header, rows),
        f"Top-1 on the first {corruptions['n']:,} images; without corruption "
        f"{_percent(corruptions['clean_top1'])}. The corruptions are this project's "
        "own, not those of CIFAR-100-C.",
    ]


def _accuracies(title: str, groups: Sequence[Mapping[str, Any]]) -> str:
    known = [group for group in groups if group["accuracy"] is not None]
    ranked = sorted(known, key=lambda group: -group["accuracy"])
    rows = [[g["name"], _percent(g["accuracy"]), str(g["count"])] for g in ranked]
    return table([title, "top-1", "images"], rows)


def _with_interval(report: Report, name: str) -> str:
    low, high = map(_percent, report["intervals"][name])
    return f"{_percent(report[name])} ({low} to {high})"


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2f} %"
