"""Saves checkpoints with orbax, in the background."""

import contextlib
import functools
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
from orbax.checkpoint import v1 as ocp

from jax_resnet.checkpoint.digests import digest_arrays, digest_json
from jax_resnet.checkpoint.storage import check_saved, plain_path
from jax_resnet.checkpoint.store import (
    FORMAT_VERSION,
    Metrics,
    Tree,
    directory,
    rank,
    saved_steps,
)
from jax_resnet.runtime.errors import UserError


class CheckpointWriter:
    """Saves steps in the background, and keeps the best and the latest ones.

    The run directory must be free of damaged checkpoints, see
    :func:`~jax_resnet.checkpoint.store.find_damaged`.
    """

    def __init__(self, workdir: Path, *, keep_latest: int = 2):
        policies = ocp.training.preservation_policies
        decisions = ocp.training.save_decision_policies
        best = policies.BestN(
            get_metric_fn=rank, n=1, keep_checkpoints_without_metrics=False
        )
        # When orbax makes directories in the background, saves of two threads mix up
        # whose directory is there, and data that came first is deleted.
        context = ocp.Context()
        context.asynchronous.create_directories_asynchronously = False
        self._workdir = workdir
        self._resources = contextlib.ExitStack()
        self._root = directory(workdir)
        self._root.mkdir(parents=True, exist_ok=True)
        self._plain_root = self._resources.enter_context(plain_path(self._root))
        self._checkpointer = ocp.training.Checkpointer(
            self._plain_root,
            context=context,
            save_decision_policy=decisions.FixedIntervalPolicy(1),
            preservation_policy=policies.AnyPreservationPolicy(
                [policies.LatestN(keep_latest), best]
            ),
        )
        self._pending: Any = None
        self._step = 0
        self._names: dict[str, set[str]] = {}  # of the arrays in each tree
        _silence_threads()

    def save(
        self,
        step: int,
        *,
        model: Tree,
        training: Tree,
        metadata: Mapping[str, Any],
        metrics: Metrics | None,
    ) -> None:
        """Starts saving a step, once the save before it is complete.

        ``model`` has parameters and BatchNorm statistics, ``training`` the rest of the
        state, by name. ``metadata`` is JSON. The metrics are those of the epoch that
        ends with this step and make it a candidate for the best; None within an epoch.
        Raises UserError if this save or the one before it fails.
        """
        self.wait()
        trees = {"model": model, "training": training}
        contents: dict[str, Any] = {
            **metadata,
            "format_version": FORMAT_VERSION,
            "step": step,
            "metrics": metrics,
            "digests": {name: digest_arrays(tree) for name, tree in trees.items()},
        }
        contents["digests"]["metadata"] = digest_json(contents)
        size = sum(a.nbytes for tree in trees.values() for a in tree.values())
        self._step = step
        self._names = {name: set(tree) for name, tree in trees.items()}
        with self._failures_explained():
            # Orbax waits five minutes for a missing directory, and its threads print
            # tracebacks when the disk is full.
            if shutil.disk_usage(self._root).free < 2 * size + 2**20:
                raise OSError("no space left on the disk")
            self._pending = self._checkpointer.save_checkpointables_async(
                step,
                trees,
                overwrite=step in saved_steps(self._workdir),
                metrics=metrics,
                custom_metadata=contents,
            )
            if self._pending is None:
                raise OSError("orbax skipped it")

    def wait(self) -> None:
        """Waits until the last save is complete.

        Raises UserError if it failed, or cannot be read back.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            with self._failures_explained():
                pending.result()
                if jax.process_index() == 0:  # which alone has saved
                    check_saved(self._plain_root / str(self._step), self._names)

    def close(self) -> None:
        """Completes the last save, and releases orbax's threads.

        Raises UserError if the save failed.
        """
        try:
            self.wait()
        finally:
            with self._resources, self._failures_explained():
                self._checkpointer.close()

    @contextlib.contextmanager
    def _failures_explained(self) -> Iterator[None]:
        try:
            yield
        # Each layer of orbax and its storage raises errors of its own.
        except Exception as error:
            text = " ".join(str(error).split())
            text = text.replace(str(self._plain_root), str(self._root))
            if "no space left on" in text.lower():
                text = "no space left on the disk"
            raise UserError(
                f"cannot save the checkpoint of step {self._step}: {text[:300]}; the "
                "one before it is intact, and the same command resumes from it"
            ) from error


@functools.cache
def _silence_threads() -> None:
    """Hides the tracebacks that tensorstore's threads print when a save fails.

    They report to an event loop that orbax has closed. The failure itself is raised in
    the thread that waits for the save.
    """
    original = sys.unraisablehook

    def hook(unraisable: "sys.UnraisableHookArgs") -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            original(unraisable)

    sys.unraisablehook = hook
