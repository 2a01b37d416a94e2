"""The history of a training run, and how it reads as text and as a picture.

Everything here is a pure function of its arguments: :mod:`jax_resnet.report` puts
the results into files.
"""

import io
import math
import platform
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any, NotRequired

from typing_extensions import TypedDict

from jax_resnet import __version__


class EpochRecord(TypedDict):
    """One epoch, counted from 1; a line of ``metrics.jsonl``.

    Top-1 and top-5 are fractions in [0, 1], losses nats per image. ``step`` is the
    number of steps done and ``learning_rate`` that of the last one.
    ``images_per_second`` counts training images. ``skipped_steps``, those left out
    because they were not finite, is there only if there were any; ``image_size``, the
    side of the training images in pixels, only where the config has ``image_sizes``.
    """

    epoch: int
    step: int
    train_loss: float
    train_top1: float
    val_loss: float
    val_top1: float
    val_top5: float
    learning_rate: float
    seconds: float
    images_per_second: float
    skipped_steps: NotRequired[int]
    image_size: NotRequired[int]


@dataclass
class Clock:
    """Seconds spent, carried over from the earlier starts of a resumed run.

    Attributes:
        wall: in the whole run before this start.
        epoch: in the unfinished epoch.
        training: in that epoch's training steps, without its evaluation.
    """

    wall: float = 0.0
    epoch: float = 0.0
    training: float = 0.0


@dataclass(frozen=True)
class RunInfo:
    """What ran on what. ``asdict`` and ``RunInfo(**d)`` take it through JSON.

    A resumed run passes the info of its first start, from the checkpoint.

    Attributes:
        title: Name of the run, such as ``resnet56``.
        command: The command line.
        started: ISO date and time of the first start.
        device: Kind and number of devices.
        platform: Operating system and processor.
        versions: From :func:`installed_versions`.
        parameters: Number of trainable numbers in the model.
        epochs: How many a finished run has.
        dataset: Name of the data set.
        n_train: Images trained on in an epoch.
        n_eval: Images of the split validated on.
        eval_name: That split, which also selects the best epoch: ``test``, ``holdout``.
        batch_size: Images in a step.
        seed: Of the run.
        dtype: Compute dtype.
        changes: What was changed in the config on the way, and from where on.
        initial_model: Whose weights it started from; "" if they were drawn.
        teacher: Whose outputs it learns beside the labels; "" for nobody's.
        evaluated: Which weights are, and saved as the model; "" for the last step's.
        image_sizes: That it trains at; "" for the data set's own throughout.
    """

    title: str
    command: str
    started: str
    device: str
    platform: str
    versions: dict[str, str]
    parameters: int
    epochs: int
    dataset: str
    n_train: int
    n_eval: int
    eval_name: str
    batch_size: int
    seed: int
    dtype: str
    changes: tuple[str, ...] = ()
    initial_model: str = ""
    teacher: str = ""
    evaluated: str = ""
    image_sizes: str = ""


@dataclass(frozen=True)
class Final:
    """How a run ended; the seconds include those of every start.

    Attributes:
        complete: Whether all epochs were done.
        wall_seconds: From start to end.
        compile_seconds: Spent in compilation.
    """

    complete: bool
    wall_seconds: float
    compile_seconds: float


def installed_versions() -> dict[str, str]:
    """Returns the versions of Python and of the packages that shape a result."""
    packages = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
    return {
        "python": platform.python_version(),
        **{package: metadata.version(package) for package in packages},
        "jax_resnet": __version__,
    }


def best_epoch(history: Sequence[EpochRecord]) -> EpochRecord | None:
    """Returns the record of highest ``val_top1``, the first of equals; never a NaN."""
    valid = [record for record in history if not math.isnan(record["val_top1"])]
    return max(valid, key=lambda record: record["val_top1"], default=None)


def render_log(
    info: RunInfo, history: Sequence[EpochRecord], final: Final | None
) -> str:
    """Returns ``log.md``, from the arguments alone.

    Args:
        info: What ran on what.
        history: Every epoch so far, from 1.
        final: How the run ended; None while it runs.
    """
    best = best_epoch(history)
    done = f"{len(history)} of {info.epochs}"
    complete = final is not None and final.complete
    versions = ", ".join(f"{name} {value}" for name, value in info.versions.items())
    about = {
        "command": "`" + info.command.replace("|", "\\|") + "`",
        "started": info.started,
        "data": f"{info.dataset}: {info.n_train:,} training images; "
        f"validation (val) on {info.n_eval:,} of `{info.eval_name}`",
        "model": f"{info.parameters:,} parameters, computing in {info.dtype}",
        **({"started from": info.initial_model} if info.initial_model else {}),
        **({"taught by": info.teacher} if info.teacher else {}),
        **({"evaluated": info.evaluated} if info.evaluated else {}),
        **({"image sizes": info.image_sizes} if info.image_sizes else {}),
        "batch size": str(info.batch_size),
        "seed": str(info.seed),
        "device": info.device,
        "platform": info.platform,
        "versions": versions,
        **({"changed": "; ".join(info.changes)} if info.changes else {}),
    }
    header = ["epoch", "train loss", "train top-1 %", "val loss", "val top-1 %"]
    resized = any("image_size" in record for record in history)
    header += ["val top-5 %", *["image size"] * resized, "learning rate", "seconds"]
    parts = [
        f"# {info.title}",
        f"Finished: epochs {done}." if complete else f"**Unfinished: epochs {done}.**",
        _table(["", ""], [list(item) for item in about.items()]),
        "## Epochs",
        "The learning rate is that of the epoch's last step. Training figures are of "
        "augmented images, and of the loss that is minimised. "
        "The epoch with the best val top-1 so far is bold.",
        _table(header, [_cells(record, bold=record is best) for record in history]),
    ]
    if skipped := [record for record in history if record.get("skipped_steps")]:
        counts = (f"{r['skipped_steps']} in epoch {r['epoch']}" for r in skipped)
        parts += [f"Steps skipped, not being finite: {', '.join(counts)}."]
    if final is not None and best is not None:
        rows = [["last", *_cells(history[-1])], ["best", *_cells(best)]]
        parts += ["## Result" if complete else "## Result so far"]
        parts += [_table(["", *header], rows), _selection(info.eval_name)]
        parts += [
            f"{final.wall_seconds:,.0f} s in all, {final.compile_seconds:,.1f} s of it "
            f"compilation; median over epochs {throughput(history):,.0f} images/s.",
            "![Loss and top-1 by epoch](curves.png)",
        ]
    return "\n\n".join(parts) + "\n"


def _selection(split: str) -> str:
    if re.search(r"\btest\b", split):
        return (
            f"Best was selected on `{split}`, the split it is measured on, and is "
            "therefore optimistic. Last is the figure to quote."
        )
    return f"Best was selected on `{split}`; both rows are measured on it too."


def _cells(record: EpochRecord, *, bold: bool = False) -> list[str]:
    cells = [
        str(record["epoch"]),
        f"{record['train_loss']:.4f}",
        f"{100 * record['train_top1']:.2f}",
        f"{record['val_loss']:.4f}",
        f"{100 * record['val_top1']:.2f}",
        f"{100 * record['val_top5']:.2f}",
        *([str(record["image_size"])] if "image_size" in record else []),
        f"{record['learning_rate']:.4g}",
        f"{record['seconds']:.1f}",
    ]
    return [f"**{cell}**" for cell in cells] if bold else cells


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = ["---:" if title else "---" for title in header]
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, rule, *rows))


def throughput(history: Sequence[EpochRecord]) -> float | None:
    """Returns the median over epochs of the images per second; None of no epochs."""
    speeds = [record["images_per_second"] for record in history]
    return statistics.median(speeds) if speeds else None


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
