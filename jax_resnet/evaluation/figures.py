"""The pictures of an evaluation, as PNG."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from jax_resnet.data import DatasetInfo
from jax_resnet.reporting.figures import (
    caption,
    new_figure,
    to_png,
    visible_channels,
)

_STYLE: dict[str, Any] = {"dpi": 110, "layout": "constrained"}
_WIDTH = 24  # of a name, in characters


def draw_all(
    results: Mapping[str, Any], info: DatasetInfo, images: UInt8[np.ndarray, "n h w c"]
) -> dict[str, bytes]:
    """Draws every picture of an evaluation's results; returns them by file name."""
    calibration = results["calibration"]
    diagrams = {
        "as trained": calibration["bins_before"],
        "temperature-scaled": calibration["bins_after"],
    }
    return {
        "reliability.png": draw_reliability(diagrams),
        "confusion.png": draw_confusion(np.array(results["confusion"]), info),
        "mistakes.png": draw_mistakes(images, results["mistakes"]),
    }


def draw_reliability(diagrams: Mapping[str, Sequence[Mapping[str, Any]]]) -> bytes:
    """Draws accuracy by confidence, one reliability diagram for each title."""
    figure = new_figure(9.0, 4.2, **_STYLE)
    grid = figure.subplots(1, len(diagrams), sharey=True)
    for axes, (title, bins) in zip(grid, diagrams.items(), strict=True):
        middles = (np.arange(len(bins)) + 0.5) / len(bins)
        width = 1 / len(bins)
        accuracy = [b["accuracy"] or 0.0 for b in bins]
        counts = np.array([b["count"] for b in bins])
        axes.bar(middles, accuracy, width, color="C0", ec="w")
        axes.bar(
            middles,
            counts / counts.sum(),
            width / 3,
            color="0.25",
            label="share of the images",
        )
        axes.plot([0, 1], [0, 1], "--", color="0.5", label="calibrated")
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", title=title)
    grid[0].set_ylabel("accuracy")
    grid[0].legend(loc="upper left")
    return to_png(figure)


def draw_confusion(
    confusion: Int[np.ndarray, "classes classes"], info: DatasetInfo
) -> bytes:
    """Draws the confusion matrix, with the classes of a superclass side by side."""
    figure = new_figure(7.5, 7.0, **_STYLE)
    axes = figure.subplots()
    classes = len(confusion)
    groups = np.asarray(info.superclass_of or range(classes))
    order = np.argsort(groups, kind="stable")
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    picture = axes.imshow(100 * shares[order][:, order], cmap="magma_r", vmin=0)
    if info.superclass_names:
        bounds = np.flatnonzero(np.diff(groups[order])) + 0.5
        middles = (np.r_[-0.5, bounds] + np.r_[bounds, classes - 0.5]) / 2
        names = [caption(name, _WIDTH) for name in info.superclass_names]
        axes.set_yticks(middles, names, fontsize=6)
        axes.set_xticks(middles, names, fontsize=6, rotation=90)
        axes.hlines(bounds, -0.5, classes - 0.5, color="0.7", linewidth=0.5)
        axes.vlines(bounds, -0.5, classes - 0.5, color="0.7", linewidth=0.5)
    elif classes <= 30:
        names = [caption(name, _WIDTH) for name in info.class_names]
        axes.set_yticks(range(classes), names)
        axes.set_xticks(range(classes), names, rotation=90)
    axes.set(xlabel="prediction", ylabel="class")
    figure.colorbar(picture, label="% of the class", shrink=0.8)
    return to_png(figure)


def draw_mistakes(
    images: UInt8[np.ndarray, "n h w c"], mistakes: Sequence[Mapping[str, Any]]
) -> bytes:
    """Draws the images of the mistakes, in rows of five."""
    rows = max(1, -(-len(mistakes) // 5))
    figure = new_figure(9.5, 2.2 * rows, **_STYLE)
    grid = figure.subplots(rows, 5, squeeze=False).ravel()
    for axes in grid:
        axes.axis("off")
    for axes, mistake in zip(grid, mistakes, strict=False):
        axes.imshow(visible_channels(images[mistake["index"]]))
        found, label = (caption(mistake[k], _WIDTH) for k in ("predicted", "label"))
        title = f"{found}, {100 * mistake['confidence']:.0f} %\nis {label}"
        axes.set_title(title, fontsize=8)
    return to_png(figure)
