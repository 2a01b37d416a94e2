"""The figures of an evaluation as lines for a terminal, in percent."""

import math
from collections.abc import Sequence

from jax_resnet.evaluation.metrics import LISTED, Evaluation, GroupAccuracy


def format_evaluation(evaluation: Evaluation) -> str:
    """Returns the figures as aligned text of several lines for people to read."""
    figures = [
        ("images", f"{evaluation.n:,}"),
        ("top-1", _percent(evaluation.top1)),
        ("top-5", _percent(evaluation.top5)),
        ("loss", f"{evaluation.loss:.4f}"),
        ("calibration error", _percent(evaluation.ece)),
    ]
    if evaluation.superclass_top1 is not None:
        figures += [("superclass top-1", _percent(evaluation.superclass_top1))]
    sections = [_columns(figures)]

    def add(title: str, rows: Sequence[tuple[str, ...]], names: int = 1) -> None:
        if rows:
            sections.append(f"{title}\n{_columns(rows, names)}")

    superclasses = _rows(sorted(evaluation.per_superclass, key=_order))
    add("Superclasses (predicted class is in theirs), worst first", superclasses)
    ranked = sorted([g for g in evaluation.per_class if g.count], key=_order)
    if len(ranked) > 2 * LISTED:
        add(f"Best {LISTED} classes", _rows(ranked[: -LISTED - 1 : -1]))
        add(f"Worst {LISTED} classes", _rows(ranked[:LISTED]))
    else:
        add("Classes, worst first", _rows(ranked))
    confused = [(*pair, f"{count:,}") for *pair, count in evaluation.most_confused]
    add("Most confused (class, taken for, images)", confused, names=2)
    return "\n\n".join(sections)


def _order(group: GroupAccuracy) -> float:
    return math.inf if group.accuracy is None else group.accuracy


def _rows(groups: Sequence[GroupAccuracy]) -> list[tuple[str, ...]]:
    return [
        (
            group.name,
            "-" if group.accuracy is None else _percent(group.accuracy),
            f"of {group.count:,}",
        )
        for group in groups
    ]


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2f} %"


def _columns(rows: Sequence[tuple[str, ...]], names: int = 1) -> str:
    """Aligns the first columns, which are names, to the left, figures to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  "
        + "  ".join(
            cell.ljust(width) if column < names else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
