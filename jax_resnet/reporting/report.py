"""Writes the files of a run directory that people read.

The records of the epochs travel in the checkpoint, and every file here is made from
them. A :class:`Report` rewrites all files, so that a resumed run has no epoch twice,
missing or torn, and the ``log.md`` of an uninterrupted run, apart from times.
"""

import json
import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jax_resnet.checkpoint.history import EpochRecord, best_epoch, throughput
from jax_resnet.checkpoint.metadata import RunMetadata
from jax_resnet.reporting.curves import draw_curves
from jax_resnet.reporting.log import Final, render_log
from jax_resnet.runtime.files import write_atomically, write_errors_explained

SECONDS_BETWEEN_CURVES = 30.0


def is_complete(workdir: Path) -> bool:
    """Returns whether the summary of a run says that all epochs are done."""
    try:
        summary = json.loads((workdir / "summary.json").read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(summary, dict) and summary.get("complete") is True


class Report:
    """Keeps the files of a run directory up to date.

    The directory is made if it is missing. All methods raise :class:`UserError` if a
    file cannot be written.
    """

    def __init__(self, workdir: Path, metadata: RunMetadata):
        self._workdir = workdir
        self._drawn = -math.inf
        with write_errors_explained(workdir):
            workdir.mkdir(parents=True, exist_ok=True)
        self._write("config.json", _json(metadata.config, indent=2))
        self._write_texts(metadata, final=None)
        history = metadata.history
        self._reported = len(history)  # epochs in the event files
        purge_step = history[-1]["step"] + 1 if history else 0
        self._events = _EventFile(workdir / "tensorboard", purge_step)

    def update(self, metadata: RunMetadata) -> None:
        """Reports the epochs since the last update.

        ``curves.png`` is drawn at most every :data:`SECONDS_BETWEEN_CURVES`.
        """
        self._write_texts(metadata, final=None)
        for record in metadata.history[self._reported :]:
            self._events.add(record)
        self._reported = len(metadata.history)
        if time.monotonic() - self._drawn > SECONDS_BETWEEN_CURVES:
            self._draw(metadata)

    def finish(self, metadata: RunMetadata, *, complete: bool) -> None:
        """Writes the final figures, which say whether all epochs are done."""
        final = Final(complete, metadata.clock.wall, metadata.compile_seconds)
        self._write_texts(metadata, final)
        self._draw(metadata)
        self._events.close()

    def _write_texts(self, metadata: RunMetadata, final: Final | None) -> None:
        lines = "".join(_json(record) for record in metadata.history)
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


class _EventFile:
    """A TensorBoard event file, written in the calling thread.

    The thread of tensorboardX's ``SummaryWriter`` dies silently when the disk is full,
    and its bounded queue then blocks training for ever.
    """

    def __init__(self, folder: Path, purge_step: int):
        # tensorboardX imports torch if it is there, which takes seconds.
        without_torch = sys.modules.setdefault("torch", None) is None  # type: ignore
        try:
            from tensorboardX.event_file_writer import EventsWriter
        finally:
            if without_torch:
                sys.modules.pop("torch", None)  # or a run in another thread did
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        self._folder = folder
        start = SessionLog(status=SessionLog.START)
        with write_errors_explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
            # File names count seconds, so the step tells files apart.
            # tensorboardX takes gs:, s3: and hdfs: at the beginning for URLs.
            path = (folder / "events").absolute()
            self._writer = EventsWriter(str(path), f".{purge_step:09}")
            # On START, TensorBoard forgets the events from this step on.
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


def _json(value: Any, **style: Any) -> str:
    """Returns strict JSON, in which a number that is not finite becomes null."""

    def finite(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: finite(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [finite(item) for item in value]
        bad = isinstance(value, float) and not math.isfinite(value)
        return None if bad else value

    return json.dumps(finite(value), allow_nan=False, **style) + "\n"


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
