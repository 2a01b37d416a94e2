"""All that a run leaves in its workdir, for people and for going on."""

from pathlib import Path

from jax_resnet.processes import LostProcessError, Processes
from jax_resnet.record import RunRecord
from jax_resnet.report import Report
from jax_resnet.resume import Saver
from jax_resnet.saving import Writer
from jax_resnet.state import TrainState


class Output:
    """What a run leaves in its workdir, brought up to date as it goes on.

    A context that completes the last save and the report when it is left. Orbax saves
    with all processes, which wait for each other; the first alone reports.

    Attributes:
        saver: of its checkpoints.
        complete: whether the last epoch was reached.

    Args:
        workdir: the run directory; this run's alone.
        processes: of the run.
        record: of the run; it grows.
        keep_latest: see :class:`~jax_resnet.saving.Writer`.

    Raises:
        UserError: if something cannot be written; here, in the methods and at the end.
    """

    def __init__(
        self,
        workdir: Path,
        processes: Processes,
        record: RunRecord,
        *,
        keep_latest: int,
    ):
        self._report = Report(workdir, record) if processes.is_first else None
        self._writer = Writer(
            workdir, keep_latest=keep_latest, lists_files=processes.is_first
        )
        self.saver = Saver(self._writer, record)
        self.complete = False

    def finish_epoch(self, state: TrainState) -> None:
        """Reports and saves the end of the epoch that the history ends with."""
        if self._report:
            self._report.update()
        self.saver.save_epoch(state)

    def __enter__(self) -> "Output":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            # A save that waits for a process that has gone would wait for minutes.
            if kind is None or not issubclass(kind, LostProcessError):
                self._writer.close()
        except BaseException:
            self.complete = False  # the last epoch could not be saved
            raise
        finally:
            if self._report:
                self._report.finish(complete=self.complete)
