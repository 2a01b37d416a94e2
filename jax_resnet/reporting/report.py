"""What a training run leaves for people in its workdir.

The list of epoch records is the truth and travels in the checkpoint; every file
here is a view of it. A :class:`Report` rewrites them all from the history it is
given, so that a resumed run has no epoch twice, none missing and none torn, and
the same ``log.md`` as an uninterrupted one but for times.
"""

import contextlib
import json
import math
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jax_resnet.checkpoint.history import EpochRecord, best_epoch, throughput
from jax_resnet.checkpoint.metadata import RunMetadata
from jax_resnet.reporting.curves import draw_curves
from jax_resnet.reporting.log import Final, render_log
from jax_resnet.runtime.files import write_atomically, write_errors_explained

SECONDS_BETWEEN_CURVES = 30.0


def read_summary(workdir: Path) -> dict[str, Any]:
    """What ``summary.json`` of a run directory says; nothing if it cannot be read."""
    try:
        summary = json.loads((workdir / "summary.json").read_text())
    except (OSError, ValueError):
        return {}
    return summary if isinstance(summary, dict) else {}


def is_complete(workdir: Path) -> bool:
    """Whether the summary of a run directory says that all epochs were done."""
    return read_summary(workdir).get("complete") is True


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
        with _hidden("torch"):
            from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        self._folder = folder
        start = SessionLog(status=SessionLog.START)
        with write_errors_explained(folder):
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
        with write_errors_explained(self._folder):
            self._writer.write_event(event)
            self._writer.flush()

    def close(self) -> None:
        with write_errors_explained(self._folder):
            self._writer.close()


@contextlib.contextmanager
def _hidden(package: str) -> Iterator[None]:
    """Imports without a package that they would take seconds to import for nothing."""
    if package in sys.modules:
        yield
        return
    sys.modules[package] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[package]


class Report:
    """The files of a run directory that people read, kept up with its history."""

    def __init__(self, workdir: Path, metadata: RunMetadata):
        """Writes every file anew from the metadata of a run, just begun or restored.

        Args:
            workdir: The run directory; made if it is missing.
            metadata: The metadata of the run so far.

        Raises:
            UserError: Something cannot be written.
        """
        self._workdir = Path(workdir)
        self._drawn = -math.inf
        with write_errors_explained(self._workdir):
            self._workdir.mkdir(parents=True, exist_ok=True)
        self._write("config.json", _json(metadata.config, indent=2))
        self._write_views(metadata, final=None)
        history = metadata.history
        self._shown = len(history)  # epochs that TensorBoard has
        purge_step = history[-1]["step"] + 1 if history else 0
        self._events = _Events(self._workdir / "tensorboard", purge_step)

    def update(self, metadata: RunMetadata) -> None:
        """Takes the epochs done since the last update into every file.

        ``curves.png`` follows at most every :data:`SECONDS_BETWEEN_CURVES`.

        Args:
            metadata: The metadata of the run so far.

        Raises:
            UserError: Something cannot be written.
        """
        self._write_views(metadata, final=None)
        for epoch in metadata.history[self._shown :]:
            self._events.add(epoch)
        self._shown = len(metadata.history)
        if time.monotonic() - self._drawn > SECONDS_BETWEEN_CURVES:
            self._draw(metadata)

    def finish(self, metadata: RunMetadata, *, complete: bool) -> None:
        """Writes the final table, ``summary.json`` and the last curves.

        Args:
            metadata: The metadata of the run.
            complete: Whether all epochs were done; False when stopped before.

        Raises:
            UserError: Something cannot be written.
        """
        final = Final(complete, metadata.clock.wall, metadata.compile_seconds)
        self._write_views(metadata, final)
        self._draw(metadata)
        self._events.close()

    def _write_views(self, metadata: RunMetadata, final: Final | None) -> None:
        lines = "".join(_json(epoch) for epoch in metadata.history)
        self._write("metrics.jsonl", lines)
        self._write("log.md", render_log(metadata.run, metadata.history, final))
        complete = final is not None and final.complete
        self._write("summary.json", _json(_summary(metadata, complete), indent=2))

    def _draw(self, metadata: RunMetadata) -> None:
        if metadata.history:
            picture = draw_curves(metadata.run, metadata.history)
            write_atomically(self._workdir / "curves.png", picture)
            self._drawn = time.monotonic()

    def _write(self, name: str, text: str) -> None:
        write_atomically(self._workdir / name, text.encode())


def _summary(metadata: RunMetadata, complete: bool) -> dict[str, Any]:
    history, info = metadata.history, metadata.run
    return {
        "parameters": info.parameters,
        "epochs": info.epochs,
        "epochs_done": len(history),
        "complete": complete,
        "last": history[-1] if history else None,
        "best": best_epoch(history),
        "selected_on": info.eval_name,
        "wall_seconds": metadata.clock.wall,
        "compile_seconds": metadata.compile_seconds,
        "images_per_second": throughput(history),
        "device": info.device,
        "versions": info.versions,
    }
