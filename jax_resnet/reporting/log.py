"""``log.md``: the history of a training run as Markdown."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from jax_resnet.checkpoint.history import EpochRecord, RunInfo, best_epoch, throughput
from jax_resnet.reporting.markdown import code, picture, plain, table

HEADER = ["epoch", "train loss", "train top-1 %", "val loss", "val top-1 %"]
HEADER += ["val top-5 %", "learning rate", "seconds"]


@dataclass(frozen=True)
class Final:
    """How a run ended; seconds are of all its starts together."""

    complete: bool  # whether all epochs are done
    wall_seconds: float  # seconds in all
    compile_seconds: float  # seconds spent in compilation


def render_log(
    info: RunInfo, history: Sequence[EpochRecord], final: Final | None
) -> str:
    """Returns the text of ``log.md``; ``final`` is None while the run is running."""
    best = best_epoch(history)
    done = f"{len(history)} of {info.epochs}"
    complete = final is not None and final.complete
    parts = [
        f"# {plain(info.title)}",
        f"Finished: epochs {done}." if complete else f"**Unfinished: epochs {done}.**",
        table(["", ""], _about(info), left=2),
        "## Epochs",
        "The learning rate is that of the epoch's last step. Training figures are of "
        "augmented images, and of the loss that is minimised. "
        "The epoch with the best val top-1 so far is bold.",
        table(
            _header(history),
            [_cells(record, bold=record is best) for record in history],
            left=0,
        ),
    ]
    if final is not None and best is not None:
        rows = [["last", *_cells(history[-1])], ["best", *_cells(best)]]
        parts += [
            "## Result" if complete else "## Result so far",
            table(["", *_header(history)], rows),
            _selection(info.eval_name),
            f"{final.wall_seconds:,.0f} s in all, {final.compile_seconds:,.1f} s of it "
            f"compilation; median over epochs {throughput(history):,.0f} images/s.",
            picture("Loss and top-1 by epoch", "curves.png"),
        ]
    return "\n\n".join(parts) + "\n"


def _about(info: RunInfo) -> list[list[str]]:
    about = {
        "command": code(info.command),
        "started": info.started,
        "data": f"{plain(info.dataset)}: {info.n_train:,} training images; "
        f"validation (val) on {info.n_eval:,} of {code(info.eval_name)}",
        "model": f"{info.parameters:,} parameters, computing in {info.dtype}",
        "started from": plain(info.initial_model),
        "taught by": plain(info.teacher),
        "evaluated": plain(info.evaluated),
        "image sizes": plain(info.image_sizes),
        "batch size": str(info.batch_size),
        "seed": str(info.seed),
        "device": plain(info.device),
        "platform": plain(info.platform),
        "versions": plain(", ".join(f"{n} {v}" for n, v in info.versions.items())),
        "changed": plain("; ".join(info.changes)),
    }
    return [[name, text] for name, text in about.items() if text]


def _selection(split: str) -> str:
    if re.search(r"\btest\b", split):
        return (
            f"Best was selected on {code(split)}, the split it is measured on, and is "
            "therefore optimistic. Last is the figure to quote."
        )
    return f"Best was selected on {code(split)}; both rows are measured on it too."


def _header(history: Sequence[EpochRecord]) -> list[str]:
    sized = any("image_size" in record for record in history)
    return [*HEADER[:6], *["image size"] * sized, *HEADER[6:]]


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
