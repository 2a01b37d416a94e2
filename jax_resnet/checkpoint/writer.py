"""Saves checkpoints by orbax, in the background."""

import contextlib
import functools
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from orbax.checkpoint import v1 as ocp

from jax_resnet.checkpoint.digests import digest_arrays, digest_json, write_manifest
from jax_resnet.checkpoint.store import FORMAT_VERSION, Tree, directory, rank, steps_in
from jax_resnet.runtime.errors import UserError


class CheckpointWriter:
    """Saves steps in the background; keeps the best and the latest ones.

    Args:
        workdir: the run directory; its checkpoints are all sound, see
            :func:`~jax_resnet.checkpoint.store.find_damaged`.
        keep_latest: how many; of two, one is sound if the other is damaged.
        lists_files: write the manifests; one process of several does.
    """

    def __init__(
        self, workdir: Path, *, keep_latest: int = 2, lists_files: bool = True
    ):
        self._lists_files = lists_files
        policies = ocp.training.preservation_policies
        decisions = ocp.training.save_decision_policies
        best = policies.BestN(
            get_metric_fn=rank, n=1, keep_checkpoints_without_metrics=False
        )
        self._root = directory(workdir)
        # What waits for a folder that orbax makes in the background waits for a
        # number, which saves of other threads change: data came before their folder,
        # and were deleted when it was made.
        context = ocp.Context()
        context.asynchronous.create_directories_asynchronously = False
        self._checkpointer = ocp.training.Checkpointer(
            self._root,
            context=context,
            save_decision_policy=decisions.FixedIntervalPolicy(1),
            preservation_policy=policies.AnyPreservationPolicy(
                [policies.LatestN(keep_latest), best]
            ),
        )
        self._pending: Any = None
        self._step = 0
        _silence_threads()

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
                overwrite=step in steps_in(self._root),
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
                if self._lists_files:
                    write_manifest(self._root / str(self._step))

    def close(self) -> None:
        """Completes the last save and releases orbax's threads."""
        try:
            self.wait()
        finally:
            with _failures_named(self._step):
                self._checkpointer.close()


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


@functools.cache
def _silence_threads() -> None:
    """Keeps tensorstore's threads from printing a traceback each when a save fails.

    Orbax then closes the event loop that they report to. What went wrong is raised in
    the main thread all the same.
    """
    before = sys.unraisablehook

    def hook(unraisable: "sys.UnraisableHookArgs") -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            before(unraisable)

    sys.unraisablehook = hook
