"""Checkpoints by orbax: written asynchronously, never trusted without a check.

A step's directory holds two trees of arrays, ``model`` (parameters and BatchNorm
statistics) and ``training`` (the optimizer and the unfinished epoch), and metadata as
JSON. The arrays are saved from host memory, so that a checkpoint does not depend on
the kind of device that made it. Orbax does not notice flipped bits in its data, so the
metadata carries SHA-256 digests of both trees and of itself; a manifest of all files
follows each save. Nothing that is loaded is executed.
"""

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from orbax.checkpoint import v1 as ocp

from jax_resnet.errors import UserError
from jax_resnet.integrity import (
    digest_arrays,
    digest_json,
    matches_manifest,
    write_manifest,
)

FORMAT_VERSION = 1
Tree = dict[str, np.ndarray]


class DamagedCheckpointError(UserError):
    """A checkpoint that cannot be read, or does not hold what was saved."""


def directory(workdir: Path) -> Path:
    """Where a run's checkpoints are."""
    return (workdir / "checkpoints").absolute()


class Writer:
    """Saves steps in the background; keeps the best and the latest ones.

    Args:
        workdir: the run directory; its checkpoints are all sound, see
            :func:`set_aside_damaged`.
        keep_latest: how many; of two, one is sound if the other is damaged.
    """

    def __init__(self, workdir: Path, *, keep_latest: int = 2):
        policies = ocp.training.preservation_policies
        decisions = ocp.training.save_decision_policies
        best = policies.BestN(
            get_metric_fn=_rank, n=1, keep_checkpoints_without_metrics=False
        )
        self._root = directory(workdir)
        self._checkpointer = ocp.training.Checkpointer(
            self._root,
            save_decision_policy=decisions.FixedIntervalPolicy(1),
            preservation_policy=policies.AnyPreservationPolicy(
                [policies.LatestN(keep_latest), best]
            ),
        )
        self._pending: Any = None
        self._step = 0

    def save(
        self,
        step: int,
        *,
        model: Tree,
        training: Tree,
        metadata: Mapping[str, Any],
        metrics: Mapping[str, float] | None,
    ) -> None:
        """Starts saving a step, once the save before it is complete.

        Args:
            step: number of training steps taken.
            model: arrays by name.
            training: arrays by name.
            metadata: JSON.
            metrics: ``val_top1`` and ``epoch`` at the end of an epoch, which make the
                step a candidate for the best; None within one.

        Raises:
            UserError: if this save or the one before it cannot be written.
        """
        self.wait()
        trees = {"model": model, "training": training}
        contents: dict[str, Any] = {
            **metadata,
            "format_version": FORMAT_VERSION,
            "step": step,
            "metrics": dict(metrics) if metrics else None,
            "digests": {name: digest_arrays(tree) for name, tree in trees.items()},
        }
        contents["digests"]["metadata"] = digest_json(contents)
        size = sum(a.nbytes for tree in trees.values() for a in tree.values())
        with _failures_named(step):
            # Orbax would wait five minutes for the folder to appear, and its threads
            # print their tracebacks when they run out of room.
            if not self._root.is_dir():
                raise FileNotFoundError("its folder has gone")
            if shutil.disk_usage(self._root).free < 2 * size + 2**20:
                raise OSError("no space left on the disk")
            self._pending = self._checkpointer.save_checkpointables_async(
                step,
                trees,
                overwrite=step in _steps(self._root),
                metrics=contents["metrics"],
                custom_metadata=contents,
            )
            if self._pending is None:
                raise OSError("orbax skipped it")
        self._step = step

    def wait(self) -> None:
        """Waits until the last save is complete.

        Raises:
            UserError: if it failed.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            with _failures_named(self._step):
                pending.result()
                # A process killed before this line leaves a step without manifest,
                # which its metadata's digests still protect.
                write_manifest(self._root / str(self._step))

    def close(self) -> None:
        """Completes the last save and releases orbax's threads."""
        try:
            self.wait()
        finally:
            with _failures_named(self._step):
                self._checkpointer.close()


def exists(workdir: Path) -> bool:
    """Whether a run directory has any checkpoint."""
    return bool(_steps(directory(workdir)))


def select(workdir: Path, which: str) -> tuple[Path, dict[str, Any]]:
    """The path and verified metadata of a step: ``best``, ``latest`` or a number.

    The best has the highest ``val_top1`` of those kept, and of equal ones the
    earliest.

    Raises:
        UserError: if there is no such step, or it is damaged.
    """
    root = directory(workdir)
    steps = _steps(root)
    if not steps:
        raise UserError(
            f"no checkpoint in {str(workdir)!r}: give the workdir of a training run"
        )
    if which == "latest":
        return root / str(steps[-1]), read_metadata(root / str(steps[-1]))
    if which == "best":
        candidates = [(root / str(s), read_metadata(root / str(s))) for s in steps]
        complete = [c for c in candidates if c[1]["metrics"] is not None]
        if not complete:
            raise UserError(
                f"no epoch of {str(workdir)!r} is complete yet: use --checkpoint latest"
            )
        return max(complete, key=lambda c: _rank(c[1]["metrics"]))
    if which not in map(str, steps):
        kept = ", ".join(map(str, steps))
        raise UserError(
            f"--checkpoint must be best, latest or a step that was kept ({kept}), "
            f"not {which!r}"
        )
    return root / which, read_metadata(root / which)


def read_metadata(path: Path) -> dict[str, Any]:
    """A step's metadata, checked against its own digest.

    Raises:
        DamagedCheckpointError: if it is not what was saved.
        UserError: if a newer version of this package wrote it.
    """
    if not matches_manifest(path):
        raise _damaged(path)
    try:
        metadata = ocp.checkpointables_metadata(path).custom_metadata
        version = metadata["format_version"]
        digest = metadata["digests"].pop("metadata")
        sound = digest == digest_json(metadata)
    except Exception as error:
        raise _damaged(path) from error
    if not sound:
        raise _damaged(path)
    if version != FORMAT_VERSION:
        raise UserError(
            f"checkpoint {str(path)!r} has format {version}, and this version of "
            f"jax_resnet reads {FORMAT_VERSION}: use the version that wrote it"
        )
    return metadata


def load(path: Path, metadata: Mapping[str, Any], name: str) -> Tree:
    """The arrays of a step, checked against their digest.

    Args:
        path: of the step.
        metadata: of the step, from :func:`read_metadata`.
        name: ``model`` or ``training``.

    Raises:
        DamagedCheckpointError: if they are not what was saved.
    """
    try:
        tree = ocp.load(path, checkpointable_name=name)
        sound = digest_arrays(tree) == metadata["digests"][name]
    except Exception as error:
        raise _damaged(path) from error
    if not sound:
        raise _damaged(path)
    return tree


def set_aside_damaged(workdir: Path) -> Iterator[str]:
    """Renames damaged steps, so that a run resumes from a sound one; names each.

    Raises:
        UserError: if steps exist and none is sound.
    """
    root = directory(workdir)
    steps = _steps(root)
    sound = 0
    for step in steps:
        path = root / str(step)
        try:
            metadata = read_metadata(path)
            for name in ("model", "training"):
                load(path, metadata, name)
            _check_metrics(path, metadata)
            sound += 1
        except DamagedCheckpointError as error:
            target = path.with_name(f"damaged-{step}")
            while target.exists():
                target = target.with_name(target.name + "-again")
            path.rename(target)
            yield f"{error}; set aside as {target.name}"
    if steps and not sound:
        raise UserError(
            f"every checkpoint in {str(workdir)!r} is damaged: "
            "train again in another --workdir"
        )


def _check_metrics(path: Path, metadata: Mapping[str, Any]) -> None:
    # Orbax ranks checkpoints by this file, and fails to start on an empty one.
    if metadata["metrics"] is None:
        return
    try:
        metrics = json.loads((path / "metrics" / "metrics").read_text())
    except (OSError, ValueError) as error:
        raise _damaged(path) from error
    if metrics != metadata["metrics"]:
        raise _damaged(path)


def _rank(metrics: Mapping[str, float]) -> float:
    # Equal accuracies differ by at least 1e-5 in all but data sets of millions.
    return metrics["val_top1"] - 1e-9 * metrics["epoch"]


def _steps(root: Path) -> list[int]:
    if not root.is_dir():
        return []
    names = (path.name for path in root.iterdir())
    return sorted(int(name) for name in names if name.isascii() and name.isdigit())


def _damaged(path: Path) -> DamagedCheckpointError:
    return DamagedCheckpointError(
        f"checkpoint {str(path)!r} is damaged: use another step, or train again"
    )


@contextlib.contextmanager
def _failures_named(step: int) -> Iterator[None]:
    try:
        yield
    # Orbax and its storage raise whatever their layers do when a write fails.
    except Exception as error:
        text = " ".join(str(error).split())
        if "no space left on" in text.lower():
            text = "no space left on the disk"
        raise UserError(
            f"cannot save the checkpoint of step {step}: {text[:300]}; the one before "
            "it is intact, and the same command resumes from it"
        ) from error
