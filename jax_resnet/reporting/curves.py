"""``curves.png``: the history of a training run as a picture."""

from collections.abc import Sequence
from typing import Any

from jax_resnet.checkpoint.history import EpochRecord, RunInfo, best_epoch
from jax_resnet.reporting.figures import caption, new_figure, to_png


def draw_curves(info: RunInfo, history: Sequence[EpochRecord]) -> bytes:
    """Returns a PNG of loss, top-1 and learning rate by epoch."""
    figure = new_figure(11.0, 4.8, dpi=120, layout="constrained")
    done = f"epochs {len(history)} of {info.epochs}"
    figure.suptitle(f"{caption(f'{info.title} on {info.dataset}', 80)}, {done}")
    loss, top1 = figure.subplots(1, 2)
    rate = loss.twinx()
    epochs = [record["epoch"] for record in history]
    marker = "o" if len(epochs) <= 20 else None

    def plot(axes: Any, values: Sequence[float], **style: Any) -> None:
        axes.plot(epochs, values, marker=marker, markersize=4, **style)

    for split, color, label in (
        ("train", "C0", "training"),
        ("val", "C1", f"validation ({caption(info.eval_name, 40)})"),
    ):
        values: list[dict[str, Any]] = [{**record} for record in history]
        plot(loss, [r[f"{split}_loss"] for r in values], color=color)
        top1_percent = [100 * r[f"{split}_top1"] for r in values]
        plot(top1, top1_percent, color=color, label=label)
    faint = {"color": "0.7", "label": "learning rate", "linestyle": "--"}
    plot(rate, [record["learning_rate"] for record in history], **faint)
    if best := best_epoch(history):
        label = f"best: {100 * best['val_top1']:.2f} % (epoch {best['epoch']})"
        star = {"color": "C3", "markersize": 12, "zorder": 3, "label": label}
        top1.plot([best["epoch"]], [100 * best["val_top1"]], "*", **star)
    for axes, title in ((loss, "loss"), (top1, "top-1 (%)"), (rate, "learning rate")):
        _label(axes, title, single=len(epochs) == 1)
    loss.grid(alpha=0.3)
    top1.grid(alpha=0.3)
    # The learning rate lies behind the loss.
    loss.set_zorder(rate.get_zorder() + 1)
    loss.patch.set_visible(False)
    handles = [*top1.get_legend_handles_labels()[0], *rate.get_lines()[:1]]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return to_png(figure)


def _label(axes: Any, title: str, *, single: bool) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set(xlabel="epoch", ylabel=title)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.axhline(0, color="none")  # makes room above the curves
    axes.set_ylim(bottom=0)
    if single:
        axes.set_xlim(0, 2)
