"""Checkpoints as they are stored: what they hold, and which are sound.

A step's directory holds two trees of arrays, ``model`` (parameters and BatchNorm
statistics) and ``training`` (the optimizer and the unfinished epoch), and metadata as
JSON. The arrays are saved from host memory, so that a checkpoint does not depend on
the kind of device that made it. Orbax does not notice flipped bits in its data, so the
metadata carries SHA-256 digests of both trees and of itself; a manifest of all files
follows each save. Nothing that is loaded is executed.
"""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp
from pydantic import TypeAdapter
from typing_extensions import TypedDict

from jax_resnet.checkpoint.digests import digest_arrays, digest_json, matches_manifest
from jax_resnet.runtime.errors import UserError

FORMAT_VERSION = 1
TREES = ("model", "training")
Tree = dict[str, np.ndarray]
_log = logging.getLogger(__name__)


class DamagedCheckpointError(UserError):
    """A checkpoint that cannot be read, or does not hold what was saved."""


class Metrics(TypedDict):
    """What a step at the end of an epoch is ranked by."""

    val_top1: float
    epoch: int


class _Envelope(TypedDict):
    step: int
    metrics: Metrics | None
    digests: dict[str, str]


_ENVELOPE = TypeAdapter(_Envelope)


@dataclass(frozen=True)
class Checkpoint:
    """A step that was saved, and whose metadata is sound.

    Attributes:
        path: its directory.
        step: number of training steps taken.
        metrics: None within an epoch.
        metadata: JSON, see :class:`~jax_resnet.checkpoint.metadata.RunMetadata`.
    """

    path: Path
    step: int
    metrics: Metrics | None
    metadata: dict[str, Any]

    @classmethod
    def open(cls, path: Path) -> "Checkpoint":
        """Reads a step's metadata and checks it against its digest.

        Every file is checked against the manifest. The arrays are checked now if
        there is none, because the process was killed before it was written.

        Raises:
            DamagedCheckpointError: if anything is not what was saved.
            UserError: if another version of this package wrote it.
        """
        try:
            has_manifest = matches_manifest(path)
            with own_context():
                metadata = ocp.checkpointables_metadata(path).custom_metadata
            digest = metadata["digests"].pop("metadata")
            if digest != digest_json(metadata):
                raise ValueError("the digest of the metadata")
            version = metadata["format_version"]
            if type(version) is not int:
                raise ValueError("the format's version")
        except Exception as error:
            raise _damaged(path) from error
        if version != FORMAT_VERSION:
            raise UserError(
                f"checkpoint {str(path)!r} has format {version}, and this version of "
                f"jax_resnet reads {FORMAT_VERSION}: use the version that wrote it"
            )
        try:
            envelope = _ENVELOPE.validate_python(metadata, strict=True)
            if str(envelope["step"]) != path.name:
                raise ValueError("the name of the directory")
        except ValueError as error:
            raise _damaged(path) from error
        checkpoint = cls(path, envelope["step"], envelope["metrics"], metadata)
        if not has_manifest:
            for name in TREES:
                checkpoint.arrays(name)
        return checkpoint

    def arrays(self, name: str) -> Tree:
        """The arrays of one of :data:`TREES`, checked against their digest.

        Raises:
            DamagedCheckpointError: if they are not what was saved.
        """
        try:
            with own_context():
                tree = ocp.load(self.path, checkpointable_name=name)
            if digest_arrays(tree) != self.metadata["digests"][name]:
                raise ValueError("the digest of the arrays")
        except Exception as error:
            raise _damaged(self.path) from error
        return tree


def own_context() -> ocp.Context:
    """Orbax for this process alone, also where several train together.

    Each of them has the whole state: the first saves it, and each restores it.
    """
    context = ocp.Context()
    if jax.distributed.is_initialized():
        index = jax.process_index()
        context.multiprocessing.primary_host = index
        context.multiprocessing.active_processes = {index}
        context.multiprocessing.barrier_sync_key_prefix = str(index)
    return context


def directory(workdir: Path) -> Path:
    """Where a run's checkpoints are."""
    return (workdir / "checkpoints").absolute()


def exists(workdir: Path) -> bool:
    """Whether a run directory has any checkpoint."""
    return bool(steps_in(directory(workdir)))


def select(workdir: Path, which: str) -> Checkpoint:
    """A sound checkpoint: ``best``, ``latest``, or a step by its number.

    The best has the highest ``val_top1`` of those kept, and of equal ones the
    earliest. In place of a damaged best or latest the next one is taken, and said.

    Raises:
        UserError: if there is no such step, or it is damaged.
    """
    root = directory(workdir)
    steps = steps_in(root)
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
        try:
            return Checkpoint.open(root / which)
        except DamagedCheckpointError as error:
            raise DamagedCheckpointError(f"{error}; use another step") from error
    sound = _sound(root, steps[::-1])
    latest = next(sound, None)
    if latest is None:
        raise _nothing_sound(workdir)
    if which == "latest":
        return latest
    ranked = [(rank(c.metrics), c) for c in (latest, *sound) if c.metrics is not None]
    if not ranked:
        raise UserError(
            f"no epoch of {str(workdir)!r} is complete yet: use --checkpoint latest"
        )
    return max(ranked, key=lambda pair: pair[0])[1]


def find_damaged(workdir: Path) -> dict[int, DamagedCheckpointError]:
    """The steps that cannot be used, and why; every array is looked at.

    Processes that train together all call this before one of them changes anything,
    because orbax has them save in step only if they have loaded in step.

    Raises:
        UserError: if steps exist and none is sound.
    """
    root = directory(workdir)
    steps = steps_in(root)
    damaged = {}
    for step in steps:
        try:
            checkpoint = Checkpoint.open(root / str(step))
            for name in TREES:
                checkpoint.arrays(name)
            _check_metrics(checkpoint)
        except DamagedCheckpointError as error:
            damaged[step] = error
    if steps and len(damaged) == len(steps):
        raise _nothing_sound(workdir)
    return damaged


def set_aside(
    workdir: Path, damaged: Mapping[int, DamagedCheckpointError]
) -> Iterator[str]:
    """Renames damaged steps, so that a run resumes from a sound one; names each."""
    for step, error in damaged.items():
        path = directory(workdir) / str(step)
        target = path.with_name(f"damaged-{step}")
        while target.exists():
            target = target.with_name(target.name + "-again")
        path.rename(target)
        yield f"{error}; set aside as {target.name}"


def rank(metrics: Mapping[str, Any]) -> float:
    """The order of checkpoints; of equal ``val_top1`` the earliest epoch is best."""
    # Equal accuracies differ by at least 1e-5 in all but data sets of millions.
    return metrics["val_top1"] - 1e-9 * metrics["epoch"]


def steps_in(root: Path) -> list[int]:
    """The steps that a directory of checkpoints has, in order."""
    if not root.is_dir():
        return []
    names = (path.name for path in root.iterdir())
    return sorted(int(name) for name in names if name.isascii() and name.isdigit())


def _sound(root: Path, steps: Sequence[int]) -> Iterator[Checkpoint]:
    damaged: list[DamagedCheckpointError] = []
    found = False
    for step in steps:
        path = root / str(step)
        try:
            checkpoint = Checkpoint.open(path)
        except DamagedCheckpointError as error:
            if path.exists():  # or a running process has just replaced it
                damaged.append(error)
            continue
        found = True
        _warn_of(damaged)
        yield checkpoint
    if found:
        _warn_of(damaged)


def _warn_of(damaged: list[DamagedCheckpointError]) -> None:
    while damaged:
        _log.warning("warning: %s; another one is used instead", damaged.pop(0))


def _check_metrics(checkpoint: Checkpoint) -> None:
    # Orbax ranks checkpoints by this file, and fails to start on an empty one.
    if checkpoint.metrics is None:
        return
    try:
        text = (checkpoint.path / "metrics" / "metrics").read_text()
        if json.loads(text) != checkpoint.metrics:
            raise ValueError("the metrics")
    except (OSError, ValueError) as error:
        raise _damaged(checkpoint.path) from error


def _damaged(path: Path) -> DamagedCheckpointError:
    if not path.exists():
        return DamagedCheckpointError(
            f"checkpoint {str(path)!r} has gone, as when a running process replaces "
            "it: try again"
        )
    return DamagedCheckpointError(f"checkpoint {str(path)!r} is damaged")


def _nothing_sound(workdir: Path) -> UserError:
    return UserError(
        f"every checkpoint in {str(workdir)!r} is damaged: "
        "train again in another --workdir"
    )
