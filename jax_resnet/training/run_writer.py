"""Reports and checkpoints, written behind the training loop."""

import dataclasses
import math
import threading
from dataclasses import dataclass
from pathlib import Path

import jax

from jax_resnet.checkpoint.metadata import RunMetadata
from jax_resnet.checkpoint.store import Metrics, rank
from jax_resnet.checkpoint.writer import CheckpointWriter
from jax_resnet.distributed.processes import Processes
from jax_resnet.reporting.report import Report
from jax_resnet.training.metrics import RunningMetrics
from jax_resnet.training.resume import to_trees
from jax_resnet.training.state import TrainState


@dataclass(frozen=True)
class Snapshot:
    """The state and metadata to save and report at some step.

    Attributes:
        state: the state, on the devices or in host memory.
        metrics: those of the unfinished epoch.
        metadata: the metadata of the run so far.
        epoch_ends: whether the step is the last one of its epoch, evaluated.
    """

    state: TrainState
    metrics: RunningMetrics
    metadata: RunMetadata
    epoch_ends: bool


class RunWriter:
    """Saves and reports a run in a thread of its own, in order.

    A checkpoint comes first and the report of its epochs after it, so that no file
    tells of an epoch that a killed run would have to train again. Where epochs are
    shorter than a save, the newest state is saved, and before it the best one not yet
    saved.

    A context manager, which completes all queued saves and reports when it is left.

    Where several processes train together, orbax's collectives have to come in the same
    order as those of the steps, in each process. All is then done in the thread that
    trains: a save is completed and reported when the next one is to start.

    Attributes:
        complete: set once the last epoch is reached; the final report says so, unless
            saving has failed.

    Args:
        workdir: the run directory; this run's alone.
        processes: the processes that train together. All of them save, waiting for
            each other, and the first one reports.
        metadata: the metadata of the run so far.
        keep_latest: number of latest checkpoints to keep.

    Raises:
        UserError: if something cannot be written; here, in the methods and at the end.
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
        self._processes = processes
        self._saved_metadata = metadata
        self._report = Report(workdir, metadata) if processes.is_first else None
        self._checkpoints = CheckpointWriter(workdir, keep_latest=keep_latest)
        self._best_rank = max(map(rank, metadata.history), default=-math.inf)
        self._pending: list[Snapshot] = []
        self._ended = False
        self._failure: BaseException | None = None
        self._changed = threading.Condition()
        self._started: Snapshot | None = None
        self._thread: threading.Thread | None = None
        if processes.count == 1:
            self._thread = threading.Thread(target=self._work, daemon=True)
            self._thread.start()

    def save_epoch(self, state: TrainState, metadata: RunMetadata) -> None:
        """Queues the end of an epoch, the last one of the metadata.

        Args:
            state: the state after it; not to be donated any more.
            metadata: the metadata of the run so far.
        """
        self._put(Snapshot(state, RunningMetrics.zeros(), metadata, True))

    def save_interrupted(
        self, state: TrainState, metrics: RunningMetrics, metadata: RunMetadata
    ) -> None:
        """Queues a state within an epoch.

        Args:
            state: the state; not to be donated any more.
            metrics: those of the unfinished epoch.
            metadata: the metadata of the run so far.
        """
        self._put(Snapshot(state, metrics, metadata, False))

    def _put(self, snapshot: Snapshot) -> None:
        self.raise_failure()
        if self._thread is None:
            self._complete_started()
            self._start_save(snapshot)
            return
        with self._changed:
            self._pending.append(snapshot)
            self._changed.notify()

    def raise_failure(self) -> None:
        """Raises the error that stopped the background thread, if there is one."""
        if self._failure is not None:
            raise self._failure

    def _work(self) -> None:
        try:
            while snapshots := self._take():
                for snapshot in self._chosen(snapshots):
                    self._start_save(snapshot)
                self._complete_started()
        except BaseException as error:  # raised again in the thread that trains
            self._failure = error

    def _take(self) -> list[Snapshot]:
        """Waits for snapshots and takes them; none are left once the run has ended."""
        with self._changed:
            self._changed.wait_for(lambda: self._pending or self._ended)
            taken, self._pending = self._pending, []
            return taken

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
        """Starts saving a snapshot, once the save before it is complete."""
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
        with self._changed:
            self._ended = True
            self._changed.notify()
        is_lost = self._processes.is_lost_process(error)
        try:
            # A save that waits for a process that has gone would wait for minutes.
            if not is_lost:
                if self._thread:
                    self._thread.join()
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
