"""The metadata of a model that was trained elsewhere."""

import datetime
import math
from collections.abc import Mapping

import numpy as np

from jax_resnet.checkpoint.history import Clock, RunInfo, installed_versions
from jax_resnet.checkpoint.metadata import Architecture, RunMetadata
from jax_resnet.data import DatasetInfo

UNKNOWN = "unknown"


def metadata_of(
    architecture: Architecture,
    arrays: Mapping[str, np.ndarray],
    info: DatasetInfo,
    *,
    title: str,
    command: str,
) -> RunMetadata:
    """Returns metadata of no epochs, whose config trains nothing.

    Args:
        architecture: of the model.
        arrays: parameters and statistics as a checkpoint names them.
        info: of the data set that it is for.
        title: of the model.
        command: that imported it.
    """
    shape = ("depth", "width", "shortcut", "dtype")
    settings = {name: architecture[name] for name in shape}  # type: ignore[literal-required]
    config = {
        "seed": 0,
        "model": settings,
        "data": {
            "name": info.name,
            "dir": "",
            "cache_dir": "",
            "train_split": "train",
            "eval_split": "test",
            "holdout": 0,
        },
        "augment": {"transforms": ["normalize"]},
        "optimizer": {
            "learning_rate": 0.0,
            "warmup_epochs": 0.0,
            "momentum": 0.0,
            "nesterov": False,
            "weight_decay": 0.0,
            "weight_decay_on": "all",
        },
        "train": {
            "initial_model": "",
            "epochs": 1,
            "batch_size": 1,
            "eval_batch_size": 1,
            "device": "auto",
            "steps_per_call": 0,
            "compilation_cache": "",
            "max_skipped_steps": 0,
        },
        "checkpoint": {"keep_latest": 2},
    }
    run = RunInfo(
        title=title,
        command=command,
        started=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        device=UNKNOWN,
        platform=UNKNOWN,
        versions=installed_versions(),
        parameters=sum(
            math.prod(array.shape)
            for name, array in arrays.items()
            if name.startswith("state.params.")
        ),
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
        config=config,
        run=run,
        clock=Clock(),
        history=[],
        compile_seconds=0.0,
    )
