"""Saves and reports a run behind the training loop."""

import dataclasses
import math
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import jax

from jax_resnet.checkpoint.metadata import RunMetadata
from jax_resnet.checkpoint.store import Metrics, rank
from jax_resnet.checkpoint.writer import CheckpointWriter
from jax_resnet.distributed.processes import Processes
from jax_resnet.reporting.report import Report
from jax_resnet.runtime.files import write_atomically
from jax_resnet.runtime.jax_settings import fixed_settings
from jax_resnet.training.metrics import RunningMetrics
from jax_resnet.training.resume import to_trees
from jax_resnet.training.state import TrainState


@dataclass(frozen=True)
class Snapshot:
    """A run at some step, which may be the last, evaluated one of its epoch."""

    state: TrainState
    metrics: RunningMetrics
    metadata: RunMetadata
    epoch_ends: bool


class RunWriter:
    """Saves and reports snapshots in order, in a thread of its own.

    An epoch is reported once its checkpoint is complete: a killed run never has to
    train an epoch again that it has reported. If epochs are shorter than a save, the
    newest state is saved, and before it the best one that is not yet saved. The end of
    the context completes all saves and reports. All methods raise :class:`UserError` if
    something cannot be written.

    Several processes have to call orbax's collectives in the same order as those of the
    steps. Their training thread saves every epoch, and completes and reports a save
    when the next one starts. All of them save, and the first one reports.

    Attributes:
        complete: set once the last epoch is done, for the final report.
    """

    def __init__(
        self,
        workdir: Path,
        processes: Processes,
        metadata: RunMetadata,
        *,
        keep_latest: int,
    ):
        self.complete = False
        self._workdir = workdir
        self._processes = processes
        self._saved_metadata = metadata
        self._report = Report(workdir, metadata) if processes.is_first else None
        self._checkpoints = CheckpointWriter(workdir, keep_latest=keep_latest)
        self._best_rank = max(map(rank, metadata.history), default=-math.inf)
        self._lock = threading.Lock()
        self._pending: list[Snapshot] = []
        self._started: Snapshot | None = None
        self._background = ThreadPoolExecutor(1)
        self._jobs: deque[Future[None]] = deque()

    def write_behind(self, name: str, make: Callable[[], bytes]) -> None:
        """Queues a file of the run directory, which the first process alone makes."""
        if self._processes.is_first:
            path = self._workdir / name
            job = self._background.submit(lambda: write_atomically(path, make()))
            self._jobs.append(job)

    def save_epoch(self, state: TrainState, metadata: RunMetadata) -> None:
        """Queues the state after the last epoch of the history, not to be donated."""
        self._save(Snapshot(state, RunningMetrics.zeros(), metadata, True))

    def save_interrupted(
        self, state: TrainState, metrics: RunningMetrics, metadata: RunMetadata
    ) -> None:
        """Queues a state within an epoch, not to be donated."""
        self._save(Snapshot(state, metrics, metadata, False))

    def _save(self, snapshot: Snapshot) -> None:
        self.raise_failure()
        if self._processes.count > 1:
            self._start_save(snapshot)
            return
        with self._lock:
            self._pending.append(snapshot)
        self._jobs.append(self._background.submit(self._save_pending))

    def raise_failure(self) -> None:
        """Raises the error of the background thread, if there is one."""
        while self._jobs and self._jobs[0].done():
            self._jobs[0].result()  # stays first if it raises
            self._jobs.popleft()

    @fixed_settings()
    def _save_pending(self) -> None:
        with self._lock:
            snapshots, self._pending = self._pending, []
        for snapshot in self._chosen(snapshots) if snapshots else []:
            self._start_save(snapshot)
        self._complete_started()

    def _chosen(self, snapshots: list[Snapshot]) -> list[Snapshot]:
        """Returns the newest snapshot, and before it the best one if it is better."""
        newest = snapshots[-1]
        epochs = (snapshot for snapshot in snapshots if snapshot.epoch_ends)
        best = max(epochs, key=_rank, default=None)
        if best is None or _rank(best) <= self._best_rank:
            return [newest]
        self._best_rank = _rank(best)
        return [newest] if best is newest else [best, newest]

    def _start_save(self, snapshot: Snapshot) -> None:
        """Starts saving a snapshot, once the one before it is saved and reported."""
        self._complete_started()
        state, metrics = jax.device_get((snapshot.state, snapshot.metrics))
        model, training = to_trees(state, metrics, epoch_ends=snapshot.epoch_ends)
        selection: Metrics | None = None
        if snapshot.epoch_ends:
            last = snapshot.metadata.history[-1]
            selection = {"val_top1": last["val_top1"], "epoch": last["epoch"]}
        self._checkpoints.save(
            int(state.step),
            model=model,
            training=training,
            metadata=dataclasses.asdict(snapshot.metadata),
            metrics=selection,
        )
        self._started = snapshot

    def _complete_started(self) -> None:
        """Completes the save that was started last, and reports its epochs."""
        started, self._started = self._started, None
        if started is None:
            return
        self._checkpoints.wait()
        self._saved_metadata = started.metadata
        if self._report:
            self._report.update(self._saved_metadata)

    def __enter__(self) -> "RunWriter":
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        is_lost = self._processes.is_lost_process(error)
        try:
            # A save that waits for a process that has gone would wait for minutes.
            if not is_lost:
                self._background.shutdown()
                self._complete_started()
                self._checkpoints.close()
                self.raise_failure()
        except BaseException:
            self.complete = False  # the last epoch could not be saved
            raise
        finally:
            if self._report:
                self._report.finish(self._saved_metadata, complete=self.complete)


def _rank(snapshot: Snapshot) -> float:
    return rank(snapshot.metadata.history[-1])
