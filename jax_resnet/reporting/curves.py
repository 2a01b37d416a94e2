"""``curves.png``: the history of a training run as a picture."""

import io
from collections.abc import Sequence
from typing import Any

from jax_resnet.checkpoint.history import EpochRecord, RunInfo, best_epoch


def draw_curves(info: RunInfo, history: Sequence[EpochRecord]) -> bytes:
    """Returns a PNG: loss and top-1 by epoch, training and validation."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(11, 4.8), dpi=120, layout="constrained")
    done = f"epochs {len(history)} of {info.epochs}"
    figure.suptitle(f"{info.title} on {info.dataset}, {done}")
    loss, top1 = figure.subplots(1, 2)
    rate = loss.twinx()
    epochs = [record["epoch"] for record in history]
    marker = "o" if len(epochs) <= 20 else None

    def plot(axes: Any, values: Sequence[float], **style: Any) -> None:
        axes.plot(epochs, values, marker=marker, markersize=4, **style)

    training = {"color": "C0", "label": "training"}
    validation = {"color": "C1", "label": f"validation ({info.eval_name})"}
    faint = {"color": "0.7", "label": "learning rate", "linestyle": "--"}
    plot(loss, [record["train_loss"] for record in history], **training)
    plot(loss, [record["val_loss"] for record in history], **validation)
    plot(top1, [100 * record["train_top1"] for record in history], **training)
    plot(top1, [100 * record["val_top1"] for record in history], **validation)
    plot(rate, [record["learning_rate"] for record in history], **faint)
    if best := best_epoch(history):
        label = f"best: {100 * best['val_top1']:.2f} % (epoch {best['epoch']})"
        spot = [best["epoch"]], [100 * best["val_top1"]]
        top1.plot(*spot, "*", color="C3", markersize=12, zorder=3, label=label)

    for axes, title in ((loss, "loss"), (top1, "top-1 (%)"), (rate, "learning rate")):
        axes.set(xlabel="epoch", ylabel=title)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.axhline(0, color="none")  # so that the margin above is of the whole
        axes.set_ylim(bottom=0)
        if len(epochs) == 1:
            axes.set_xlim(0, 2)
    loss.grid(alpha=0.3)
    top1.grid(alpha=0.3)
    rate.yaxis.label.set_color("0.5")
    rate.tick_params(axis="y", colors="0.5")
    # The faint line lies behind the loss, which otherwise has the lower axes.
    loss.set_zorder(rate.get_zorder() + 1)
    loss.patch.set_visible(False)
    handles = [*top1.get_legend_handles_labels()[0], *rate.get_lines()[:1]]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    picture = io.BytesIO()
    FigureCanvasAgg(figure).print_png(picture)
    return picture.getvalue()
