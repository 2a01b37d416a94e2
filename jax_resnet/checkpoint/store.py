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
import re
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tensorstore
from orbax.checkpoint import v1 as ocp
from pydantic import TypeAdapter
from typing_extensions import TypedDict

from jax_resnet.checkpoint.digests import digest_arrays, digest_json
from jax_resnet.runtime.errors import UserError

FORMAT_VERSION = 1
TREES = ("model", "training")
Tree = dict[str, np.ndarray]
# Paths that mean only themselves to orbax, to which /s3/x and its like are URLs.
_PLAIN = re.compile(r"(?!/(gs|s3|az|hf)/)[\w/. ,+=@-]+")
_OPEN_FOLDERS = Path("/proc/self/fd")
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
        try:
            with _own_context(), plain_path(path) as plain:
                metadata = ocp.checkpointables_metadata(plain).custom_metadata
            digest = metadata["digests"].pop("metadata")
            if digest != digest_json(metadata):
                raise ValueError("the digest of the metadata differs")
            header = _HEADER.validate_python(metadata, strict=True)
            if str(header["step"]) != path.name:
                raise ValueError("the directory has the name of another step")
        except Exception as error:
            raise DamagedCheckpointError(path) from error
        check_version(f"checkpoint {str(path)!r}", header["format_version"])
        return cls(path, header["step"], header["metrics"], metadata)

    def arrays(self, name: str) -> Tree:
        """Loads one of :data:`TREES` and checks it against its digest.

        Raises DamagedCheckpointError if it is not what was saved.
        """
        try:
            with _own_context(), plain_path(self.path) as plain:
                tree = ocp.load(plain, checkpointable_name=name)
            if digest_arrays(tree) != self.metadata["digests"][name]:
                raise ValueError("the digest of the arrays differs")
        except Exception as error:
            raise DamagedCheckpointError(self.path) from error
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
        try:
            metrics = json.loads((self.path / "metrics" / "metrics").read_bytes())
        except (OSError, ValueError) as error:
            raise DamagedCheckpointError(self.path) from error
        if metrics != self.metrics:
            raise DamagedCheckpointError(self.path)


def check_version(what: str, version: int) -> None:
    """Raises UserError if another format version wrote ``what``."""
    if version != FORMAT_VERSION:
        raise UserError(
            f"{what} has format {version}, and this version of jax_resnet reads "
            f"{FORMAT_VERSION}: use the version that wrote it"
        )


def check_saved(step: Path, names: Mapping[str, Collection[str]]) -> None:
    """Checks that a step can be read, with arrays of these names in each tree.

    The stored bytes are read, and not decoded, which takes 30 ms for a ResNet-56 where
    :meth:`Checkpoint.verify` takes a second. Raises OSError or ValueError if something
    is missing or cut off.
    """
    for file in ("_CHECKPOINT_METADATA", *(f"{tree}/_METADATA" for tree in names)):
        json.loads((step / file).read_bytes())
    for tree, expected in names.items():
        base = {"driver": "file", "path": f"{step / tree}/"}
        stored = tensorstore.KvStore.open({"driver": "ocdbt", "base": base}).result()
        reads = {key: stored.read(key) for key in stored.list().result()}
        found = {key.decode().partition("/")[0] for key in reads}
        if found != set(expected) or any(
            read.result().state != "value" for read in reads.values()
        ):
            raise OSError(f"it cannot be read back: arrays of {tree} are missing")


@contextlib.contextmanager
def plain_path(folder: Path) -> Iterator[Path]:
    """Gives a folder a path in which nothing has a meaning to orbax.

    Orbax and its storage read signs such as ``[``, ``*`` or a backslash, wherever in a
    path they are, as patterns or separators, and then save something else in silence.
    They take every path for UTF-8, too. Linux has another path for every open folder.
    Raises UserError where there is none.
    """
    resolved = folder.resolve()  # the storage knows no ``..``
    is_utf8 = str(resolved).isascii() or sys.getfilesystemencoding() == "utf-8"
    if _PLAIN.fullmatch(str(resolved)) and is_utf8:
        yield resolved
        return
    if not _OPEN_FOLDERS.is_dir():
        raise UserError(
            f"a run cannot be in {str(folder)!r}: its path may have letters, digits, "
            "spaces, and the signs . , _ + = @ - alone"
        )
    descriptor = os.open(resolved, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield _OPEN_FOLDERS / str(descriptor)
    finally:
        os.close(descriptor)


def _own_context() -> ocp.Context:
    """Makes orbax act for this process alone, even where several train together.

    The first process saves the whole state, and each process restores it.
    """
    context = ocp.Context()
    if jax.distributed.is_initialized():
        index = jax.process_index()
        context.multiprocessing.primary_host = index
        context.multiprocessing.active_processes = {index}
        context.multiprocessing.barrier_sync_key_prefix = str(index)
    return context


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
