"""Finds the model to use where none is named."""

import json
from pathlib import Path

from jax_resnet.runtime.resources import own_folder


def most_accurate_run() -> Path | None:
    """Returns the run of highest validation top-1 in ``results/``; None without one."""
    runs = (path.parent for path in own_folder("results").glob("*/checkpoints"))
    return max(runs, key=_best_top1, default=None)


def _best_top1(workdir: Path) -> float:
    try:
        best = json.loads((workdir / "summary.json").read_bytes())["best"]
        return float(best["val_top1"])
    except (OSError, ValueError, LookupError, TypeError):
        return 0.0
