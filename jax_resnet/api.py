"""The functions of the library; ``import jax_resnet`` offers them by name."""

import time
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jax_resnet import config as configs
from jax_resnet.distributed.processes import Processes
from jax_resnet.evaluation import run as evaluation
from jax_resnet.predictor import Predictor
from jax_resnet.runtime.jax_settings import fixed_settings, present_settings
from jax_resnet.runtime.paths import user_path
from jax_resnet.runtime.signals import CallInterrupt
from jax_resnet.training.run import train
from jax_resnet.training.task import OnEpoch, Result, Task


def load(path_or_run: str | Path | Result, checkpoint: str | int = "best") -> Predictor:
    """Loads a trained model from a run directory or an exported folder.

    Args:
        path_or_run: a directory, or what :func:`fit` returned.
        checkpoint: ``"best"``, ``"latest"`` or the number of a saved step.

    Returns:
        The model. ``model.predict(images)`` takes uint8 images ``[n, h, w, c]`` and
        returns probabilities ``[n, classes]``; their names are
        ``model.info.class_names``.

    Raises:
        UserError: if there is no such model, or it is damaged.
    """
    return Predictor.open(_path(path_or_run), str(checkpoint))


def fit(
    config: ConfigDict | str | Path,
    workdir: str | Path,
    *,
    on_epoch: OnEpoch | None = None,
    max_seconds: float | None = None,
    accept_changes: bool = False,
    quiet: bool = False,
) -> Result:
    """Trains a model, or resumes the unfinished run in the directory.

    Ctrl-C, or interrupting the cell of a notebook, saves the run and returns; the same
    call resumes it. In a thread other than the main one, raise an exception from
    ``on_epoch`` to stop.

    Args:
        config: a config, the file of one, or the name of one that comes with this
            package, such as ``"resnet56"``.
        workdir: the run directory. It is created if necessary.
        on_epoch: called after each epoch with its record, a dictionary such as a line
            of ``metrics.jsonl``, in the thread that calls ``fit``, while the epoch is
            saved in the background. An exception that it raises stops the run once that
            is done, and is raised here.
        max_seconds: save and return in time to have ended so many seconds from now.
        accept_changes: go on with a run whose config has changed, where its state
            allows it.
        quiet: print nothing.

    Returns:
        How the run ended: ``last`` and ``best`` are records of epochs, ``workdir`` is
        the run directory, ``stopped_by`` is None if the run is complete.

    Raises:
        UserError: if the config, the directory, the data or an argument has to be
            changed, or the loss is not finite. What was saved is intact.
    """
    folder = user_path(workdir).absolute()  # wherever on_epoch may go
    with CallInterrupt(max_seconds, started=time.monotonic()) as interrupt:
        if isinstance(config, ConfigDict):
            settings, name, shown = configs.checked(config), _name(folder), "config"
        else:
            settings, name = configs.load(str(config)), Path(config).stem
            shown = repr(str(config))
        task = Task(
            settings,
            folder,
            name,
            f"jax_resnet.fit({shown}, workdir)",
            accept_changes,
            say=(lambda line: None) if quiet else None,
            on_epoch=on_epoch and fixed_settings(present_settings())(on_epoch),
        )
        return train(task, Processes(), interrupt)


def evaluate_run(
    path_or_run: str | Path | Result,
    split: str = "test",
    *,
    checkpoint: str | int = "best",
    data_dir: str | Path | None = None,
    batch_size: int | None = None,
) -> dict[str, Any]:
    """Evaluates a trained model on a split of its data, and writes no file.

    Args:
        path_or_run: a run directory, an exported folder, or what :func:`fit` returned.
        split: such as ``"test"`` or ``"train[:10%]"``; ``"holdout"`` for the images
            that were held out of training.
        checkpoint: ``"best"``, ``"latest"`` or the number of a saved step.
        data_dir: the folder of the data; None is that of the training.
        batch_size: images per call of the network; None is what is fast.

    Returns:
        What ``python -m jax_resnet.evaluate`` writes as JSON: ``top1``, ``top5``,
        ``loss``, ``intervals``, ``per_class``, ``confusion`` and more.

    Raises:
        UserError: if there is no such model, or its data cannot be loaded.
    """
    return evaluation.evaluate_run(
        _path(path_or_run),
        split,
        checkpoint=str(checkpoint),
        data_dir=str(data_dir) if data_dir else None,
        batch_size=batch_size,
        verbose=False,
    ).report


def _path(path_or_run: str | Path | Result) -> Path:
    if isinstance(path_or_run, Result):
        return path_or_run.workdir
    return user_path(path_or_run)


def _name(workdir: Path) -> str:
    return workdir.resolve().name
