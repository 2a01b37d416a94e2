"""Metadata of models that were trained elsewhere."""

import datetime
from collections.abc import Mapping

import numpy as np

from jax_resnet.checkpoint.history import Clock, RunInfo, installed_versions
from jax_resnet.checkpoint.metadata import Architecture, RunMetadata
from jax_resnet.data import DatasetInfo
from jax_resnet.runtime.text import printable

UNKNOWN = "unknown"


def imported_metadata(
    architecture: Architecture,
    arrays: Mapping[str, np.ndarray],
    info: DatasetInfo,
    *,
    title: str,
    command: str,
) -> RunMetadata:
    """Returns the metadata of an imported model, as those of a run without epochs."""
    data = {
        "name": info.name,
        "dir": "",
        "cache_dir": "",
        "train_split": "train",
        "eval_split": "test",
        "holdout": 0,
    }
    parameters = [a.size for n, a in arrays.items() if n.startswith("state.params.")]
    run = RunInfo(
        title=printable(title),
        command=printable(command),
        started=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        device=UNKNOWN,
        platform=UNKNOWN,
        versions=installed_versions(),
        parameters=sum(parameters),
        epochs=0,
        dataset=info.name,
        n_train=0,
        n_eval=0,
        eval_name=UNKNOWN,
        batch_size=0,
        seed=0,
        dtype=architecture["dtype"],
    )
    return RunMetadata(
        model=architecture,
        dataset=info,
        config={"data": data},
        run=run,
        clock=Clock(),
        history=[],
        compile_seconds=0.0,
    )
