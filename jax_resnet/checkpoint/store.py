"""Reads checkpoints, and chooses among those of a run.

The directory of a step holds two trees of arrays, ``model`` (parameters and BatchNorm
statistics) and ``training`` (optimizer state and the metrics of an unfinished epoch),
and metadata as JSON. Arrays are saved from host memory, so a checkpoint restores on any
device. Orbax does not notice flipped bits, so the metadata has SHA-256 digests of both
trees and of itself. Loading a checkpoint executes nothing.
"""

import contextlib
import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from orbax.checkpoint import v1 as ocp
from pydantic import TypeAdapter
from typing_extensions import TypedDict

from jax_resnet.checkpoint.digests import digest_arrays, digest_json
from jax_resnet.checkpoint.storage import own_context, plain_path
from jax_resnet.runtime.errors import UserError
from jax_resnet.runtime.memory import is_out_of_memory

FORMAT_VERSION = 1
TREES = ("model", "training")
Tree = dict[str, np.ndarray]
_log = logging.getLogger(__name__)


class DamagedCheckpointError(UserError):
    """A checkpoint cannot be read, or is not what was saved."""

    def __init__(self, path: Path):
        super().__init__(f"checkpoint {str(path)!r} is damaged: use another step")


class Metrics(TypedDict):
    """The metrics that rank the checkpoints of epochs."""

    val_top1: float
    epoch: int


class _Header(TypedDict):
    format_version: int
    step: int
    metrics: Metrics | None
    digests: dict[str, str]


_HEADER = TypeAdapter(_Header)


@dataclass(frozen=True)
class Checkpoint:
    """A saved step with sound metadata."""

    path: Path  # directory of the step
    step: int  # number of training steps taken
    metrics: Metrics | None  # None within an epoch
    # JSON of :class:`~jax_resnet.checkpoint.metadata.RunMetadata`
    metadata: dict[str, Any]

    @classmethod
    def open(cls, path: Path) -> "Checkpoint":
        """Reads the metadata of a step and checks it against its digest.

        Raises DamagedCheckpointError, or :class:`UserError` if another version of this
        package wrote it.
        """
        with _damage_found(path):
            with own_context(), plain_path(path) as plain:
                metadata = ocp.checkpointables_metadata(plain).custom_metadata
            digest = metadata["digests"].pop("metadata")
            if digest != digest_json(metadata):
                raise DamagedCheckpointError(path)
            header = _HEADER.validate_python(metadata, strict=True)
            if str(header["step"]) != path.name:  # another step's
                raise DamagedCheckpointError(path)
        check_version(f"checkpoint {str(path)!r}", header["format_version"])
        return cls(path, header["step"], header["metrics"], metadata)

    def arrays(self, name: str) -> Tree:
        """Loads one of :data:`TREES` and checks it against its digest.

        Raises DamagedCheckpointError if it is not what was saved.
        """
        with _damage_found(self.path):
            with own_context(), plain_path(self.path) as plain:
                tree = ocp.load(plain, checkpointable_name=name)
            if digest_arrays(tree) != self.metadata["digests"][name]:
                raise DamagedCheckpointError(self.path)
        return tree

    def verify(self) -> None:
        """Reads everything that a resumed run needs.

        Raises DamagedCheckpointError if anything is not what was saved.
        """
        for name in TREES:
            self.arrays(name)
        if self.metrics is None:
            return
        # Orbax ranks checkpoints by this file, and does not start with an empty one.
        with _damage_found(self.path):
            metrics = json.loads((self.path / "metrics" / "metrics").read_bytes())
        if metrics != self.metrics:
            raise DamagedCheckpointError(self.path)


@contextlib.contextmanager
def _damage_found(step: Path) -> Iterator[None]:
    """Calls a step damaged if reading it fails.

    Without memory or the right to read it, a step is as it was, and stays in its place.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # of orbax, its storage, or JSON
        if is_out_of_memory(error):
            raise
        for path in (step, *step.rglob("*")):
            if path.exists() and not os.access(path, os.R_OK):
                raise UserError(f"{str(path)!r} may not be read") from error
        raise DamagedCheckpointError(step) from error


def check_version(what: str, version: int) -> None:
    """Raises UserError if another format version wrote ``what``."""
    if version != FORMAT_VERSION:
        raise UserError(
            f"{what} has format {version}, and this version of jax_resnet reads "
            f"{FORMAT_VERSION}: use the version that wrote it"
        )


def directory(workdir: Path) -> Path:
    """Returns where the checkpoints of a run are."""
    return (workdir / "checkpoints").absolute()


def saved_steps(workdir: Path) -> list[int]:
    """Returns the steps that a run has saved, in order."""
    root = directory(workdir)
    names = [path.name for path in root.iterdir()] if root.is_dir() else []
    return sorted(int(name) for name in names if name.isascii() and name.isdigit())


def select(workdir: Path, which: str) -> Checkpoint:
    """Returns a checkpoint with a sound model: ``best``, ``latest``, or a step.

    The best has the highest ``val_top1``, and among equal ones the lowest epoch. If the
    best or latest is damaged, a warning says so and the next one is taken. Raises
    UserError if there is no such step, or it is damaged.
    """
    root, steps = directory(workdir), saved_steps(workdir)
    if not steps:
        raise UserError(
            f"no checkpoint in {str(workdir)!r}: give the workdir of a training run"
        )
    if which not in ("best", "latest"):
        if which not in map(str, steps):
            kept = ", ".join(map(str, steps))
            raise UserError(
                f"--checkpoint must be best, latest or a step that was kept ({kept}), "
                f"not {which!r}"
            )
        return Checkpoint.open(root / which)
    opened = []
    for step in reversed(steps):
        with _damaged_ignored(root / str(step)):
            opened.append(Checkpoint.open(root / str(step)))
    if which == "best":
        complete = [(rank(c.metrics), c) for c in opened if c.metrics is not None]
        if opened and not complete:
            raise UserError(
                f"no epoch of {str(workdir)!r} is complete yet: use --checkpoint latest"
            )
        opened = [c for _, c in sorted(complete, key=lambda pair: -pair[0])]
    for checkpoint in opened:
        with _damaged_ignored(checkpoint.path):
            checkpoint.arrays("model")
            return checkpoint
    raise _all_damaged(workdir)


def find_damaged(workdir: Path) -> list[int]:
    """Returns the steps that a run cannot resume from, after reading all arrays.

    Every process of a run calls this before one of them changes anything: orbax saves
    together only in processes that have loaded equally often. Raises UserError if there
    are steps and all are damaged.
    """
    steps = saved_steps(workdir)
    damaged = []
    for step in steps:
        try:
            Checkpoint.open(directory(workdir) / str(step)).verify()
        except DamagedCheckpointError:
            damaged.append(step)
    if steps and damaged == steps:
        raise _all_damaged(workdir)
    return damaged


def set_aside(workdir: Path, damaged: Iterable[int]) -> Iterator[str]:
    """Renames damaged steps, so that a run resumes from a sound one.

    Yields:
        A line that says so, for each step.
    """
    for step in damaged:
        path = directory(workdir) / str(step)
        target = path.with_name(f"damaged-{step}")
        while target.exists():
            target = target.with_name(target.name + "-again")
        path.rename(target)
        yield f"checkpoint {str(path)!r} is damaged, and now set aside as {target.name}"


def rank(metrics: Mapping[str, Any]) -> float:
    """Orders checkpoints; of those with equal ``val_top1`` the first epoch is best."""
    # Equal accuracies differ by at least 1e-5 in all but data sets of millions.
    return metrics["val_top1"] - 1e-9 * metrics["epoch"]


@contextlib.contextmanager
def _damaged_ignored(path: Path) -> Iterator[None]:
    try:
        yield
    except DamagedCheckpointError:
        if path.exists():  # otherwise a running process has just replaced it
            _log.warning("warning: ignoring the damaged checkpoint %r", str(path))


def _all_damaged(workdir: Path) -> UserError:
    return UserError(
        f"every checkpoint in {str(workdir)!r} is damaged: "
        "train again in another --workdir"
    )
