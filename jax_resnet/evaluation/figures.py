"""The pictures of an evaluation, as PNG."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from jax_resnet.evaluation.assessment import Assessment, Mistake
from jax_resnet.evaluation.calibration import Reliability
from jax_resnet.evaluation.metrics import ClassNames


def draw_reliability(before: Reliability, after: Reliability) -> bytes:
    """Accuracy by confidence, before and after temperature scaling."""
    figure = _figure(9.0, 4.2)
    for axes, title, diagram in zip(
        figure.subplots(1, 2, sharey=True),
        ("as trained", "temperature-scaled"),
        (before, after),
        strict=True,
    ):
        edges = np.linspace(0, 1, len(diagram.counts) + 1)
        middles, width = (edges[1:] + edges[:-1]) / 2, edges[1]
        filled = diagram.counts > 0
        axes.bar(middles[filled], diagram.accuracy[filled], width, color="C0", ec="w")
        share = diagram.counts / diagram.counts.sum()
        axes.bar(middles, share, width / 3, color="0.25", label="share of the images")
        axes.plot([0, 1], [0, 1], "--", color="0.5", label="calibrated")
        title = f"{title}: calibration error {100 * diagram.ece:.2f} %"
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", title=title)
    figure.axes[0].set_ylabel("accuracy")
    figure.axes[0].legend(loc="upper left")
    return _png(figure)


def draw_risk(
    coverage: Float[np.ndarray, " n"], risk: Float[np.ndarray, " n"]
) -> bytes:
    """The share of wrong answers if only the most confident ones are given."""
    figure = _figure(6.0, 4.0)
    axes = figure.subplots()
    axes.plot(100 * coverage, 100 * risk, color="C3")
    axes.set(
        xlabel="images answered, the most confident first (%)",
        ylabel="of them wrong (%)",
        xlim=(0, 100),
    )
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    return _png(figure)


def draw_confusion(
    confusion: Int[np.ndarray, "classes classes"], info: ClassNames
) -> bytes:
    """Each class's images by what they are taken for; superclasses side by side."""
    figure = _figure(7.5, 7.0)
    axes = figure.subplots()
    classes = len(confusion)
    groups = np.asarray(info.superclass_of or range(classes))
    order = np.argsort(groups, kind="stable")
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    picture = axes.imshow(100 * shares[order][:, order], cmap="magma_r", vmin=0)
    bounds = np.flatnonzero(np.diff(groups[order])) + 0.5
    if info.superclass_names:
        middles = (np.r_[-0.5, bounds] + np.r_[bounds, classes - 0.5]) / 2
        axes.set_yticks(middles, info.superclass_names, fontsize=6)
        axes.set_xticks(middles, info.superclass_names, fontsize=6, rotation=90)
        for bound in bounds:
            axes.axhline(bound, color="0.7", linewidth=0.5)
            axes.axvline(bound, color="0.7", linewidth=0.5)
    elif classes <= 30:
        axes.set_yticks(range(classes), info.class_names)
        axes.set_xticks(range(classes), info.class_names, rotation=90)
    axes.set(xlabel="taken for", ylabel="class")
    figure.colorbar(picture, label="% of the class", shrink=0.8)
    return _png(figure)


def draw_mistakes(
    images: UInt8[np.ndarray, "n h w c"], mistakes: Sequence[Mistake]
) -> bytes:
    """The images that the model gets wrong with most confidence."""
    columns = min(5, max(1, len(mistakes)))
    rows = max(1, -(-len(mistakes) // columns))
    figure = _figure(1.9 * columns, 2.2 * rows)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for axes, mistake in zip(grid.flat, mistakes, strict=False):
        image = images[mistake.index]
        axes.imshow(image.squeeze(-1) if image.shape[-1] == 1 else image, cmap="gray")
        axes.set_title(
            f"{mistake.predicted}, {100 * mistake.confidence:.0f} %\n"
            f"is {mistake.label}",
            fontsize=8,
        )
    return _png(figure)


def draw_all(
    assessment: Assessment, images: UInt8[np.ndarray, "n h w c"], info: ClassNames
) -> dict[str, bytes]:
    """Every picture by the name of its file."""
    calibration = assessment.calibration
    return {
        "reliability.png": draw_reliability(calibration.before, calibration.after),
        "risk-coverage.png": draw_risk(assessment.coverage, assessment.risk),
        "confusion.png": draw_confusion(assessment.confusion, info),
        "mistakes.png": draw_mistakes(images, assessment.mistakes),
    }


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=110, layout="constrained")


def _png(figure: Any) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    picture = io.BytesIO()
    FigureCanvasAgg(figure).print_png(picture)
    return picture.getvalue()
