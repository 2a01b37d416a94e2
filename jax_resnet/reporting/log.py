"""``log.md``: the history of a training run as Markdown."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from jax_resnet.checkpoint.history import EpochRecord, RunInfo, best_epoch, throughput


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
