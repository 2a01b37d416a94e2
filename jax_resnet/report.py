"""What a training run leaves for people in its workdir.

The list of epoch records is the truth and travels in the checkpoint; every file
here is a view of it. A :class:`Report` rewrites them all from the history it is
given, so that a resumed run has no epoch twice, none missing and none torn, and
the same ``log.md`` as an uninterrupted one but for times.
"""

import contextlib
import json
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jax_resnet.errors import UserError
from jax_resnet.history import (
    EpochRecord,
    Final,
    RunInfo,
    best_epoch,
    draw_curves,
    render_log,
    throughput,
)

SECONDS_BETWEEN_CURVES = 30.0


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}; make room there or make "
            "it writable, then run the same command again"
        ) from error


def is_complete(workdir: Path) -> bool:
    """Whether the summary of a run directory says that all epochs were done."""
    try:
        summary = json.loads((workdir / "summary.json").read_text())
    except (OSError, ValueError):
        return False
    return isinstance(summary, dict) and summary.get("complete") is True


def write_atomically(path: Path, data: bytes) -> None:
    """Replaces a file in one move: readers see the old content or the new.

    What is no plain file, such as ``/dev/stdout`` or a link, is written to as it is.

    Args:
        path: The file, in a folder that exists.
        data: Its new content.

    Raises:
        UserError: It cannot be written; the old file is as it was.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    with _naming(path):
        if path.is_symlink() or (path.exists() and not path.is_file()):
            path.write_bytes(data)
            return
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise


def _json(value: Any, **style: Any) -> str:
    """Strict JSON: a number that is not finite becomes null."""

    def finite(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: finite(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [finite(item) for item in value]
        bad = isinstance(value, float) and not math.isfinite(value)
        return None if bad else value

    return json.dumps(finite(value), allow_nan=False, **style) + "\n"


class _Events:
    """A TensorBoard event file, written in the calling thread.

    tensorboardX's ``SummaryWriter`` writes in a thread that dies silently on a full
    disk, after which its bounded queue blocks the training loop for ever.
    """

    def __init__(self, folder: Path, purge_step: int):
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        self._folder = folder
        start = SessionLog(status=SessionLog.START)
        with _naming(folder):
            folder.mkdir(parents=True, exist_ok=True)
            # The file's name has a resolution of seconds: the step sets it apart.
            self._writer = EventsWriter(str(folder / "events"), f".{purge_step:09}")
            # On START TensorBoard forgets what it has from this step on.
            event = Event(wall_time=time.time(), step=purge_step, session_log=start)
            self._writer.write_event(event)
            self._writer.flush()

    def add(self, record: EpochRecord) -> None:
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.proto.summary_pb2 import Summary

        tags = {
            "train/loss": record["train_loss"],
            "train/top1": record["train_top1"],
            "validation/loss": record["val_loss"],
            "validation/top1": record["val_top1"],
            "validation/top5": record["val_top5"],
            "learning_rate": record["learning_rate"],
            "images_per_second": record["images_per_second"],
        }
        values = [Summary.Value(tag=tag, simple_value=v) for tag, v in tags.items()]
        event = Event(
            wall_time=time.time(), step=record["step"], summary=Summary(value=values)
        )
        with _naming(self._folder):
            self._writer.write_event(event)
            self._writer.flush()

    def close(self) -> None:
        with _naming(self._folder):
            self._writer.close()


class Report:
    """The files of a run directory that people read, kept up with its history."""

    def __init__(
        self,
        workdir: Path,
        info: RunInfo,
        history: Sequence[EpochRecord],
        config: Mapping[str, Any],
    ):
        """Writes every file anew from a history, empty or restored.

        Args:
            workdir: The run directory; made if it is missing.
            info: What runs on what.
            history: The epochs already done, from 1.
            config: The whole config, for ``config.json``.

        Raises:
            UserError: Something cannot be written.
            ValueError: The history does not count 1, 2, 3...
        """
        if [record["epoch"] for record in history] != [*range(1, len(history) + 1)]:
            raise ValueError("the history does not count the epochs 1, 2, 3...")
        self._workdir = Path(workdir)
        self._info = info
        self._history = list(history)
        self._drawn = -math.inf
        with _naming(self._workdir):
            self._workdir.mkdir(parents=True, exist_ok=True)
        self._write("config.json", _json(config, indent=2))
        self._write_views(final=None)
        # Of an earlier start: it sums up a run that has ended, and this one has not.
        with _naming(self._workdir / "summary.json"):
            (self._workdir / "summary.json").unlink(missing_ok=True)
        purge_step = history[-1]["step"] + 1 if history else 0
        self._events = _Events(self._workdir / "tensorboard", purge_step)

    def add(self, record: EpochRecord) -> None:
        """Takes the next epoch's record into every file.

        ``curves.png`` follows at most every :data:`SECONDS_BETWEEN_CURVES`.

        Raises:
            UserError: Something cannot be written.
            ValueError: It is not the next epoch.
        """
        if record["epoch"] != len(self._history) + 1:
            raise ValueError(f"epoch {record['epoch']} after {len(self._history)}")
        self._history.append(record)
        self._write_views(final=None)
        self._events.add(record)
        if time.monotonic() - self._drawn > SECONDS_BETWEEN_CURVES:
            self._draw()

    def finish(
        self, *, complete: bool, wall_seconds: float, compile_seconds: float
    ) -> None:
        """Writes ``summary.json``, the final table and the last curves.

        Args:
            complete: Whether all epochs were done; False when stopped before.
            wall_seconds: Of the run, all its starts together.
            compile_seconds: Of them, spent in compilation.

        Raises:
            UserError: Something cannot be written.
        """
        self._write_views(Final(complete, wall_seconds, compile_seconds))
        history, info = self._history, self._info
        summary = {
            "parameters": info.parameters,
            "epochs": info.epochs,
            "epochs_done": len(history),
            "complete": complete,
            "last": history[-1] if history else None,
            "best": best_epoch(history),
            "selected_on": info.eval_name,
            "wall_seconds": wall_seconds,
            "compile_seconds": compile_seconds,
            "images_per_second": throughput(history),
            "device": info.device,
            "versions": info.versions,
        }
        self._write("summary.json", _json(summary, indent=2))
        self._draw()
        self._events.close()

    def _write_views(self, final: Final | None) -> None:
        lines = "".join(_json(record) for record in self._history)
        self._write("metrics.jsonl", lines)
        self._write("log.md", render_log(self._info, self._history, final))

    def _draw(self) -> None:
        if self._history:
            picture = draw_curves(self._info, self._history)
            write_atomically(self._workdir / "curves.png", picture)
            self._drawn = time.monotonic()

    def _write(self, name: str, text: str) -> None:
        write_atomically(self._workdir / name, text.encode())
