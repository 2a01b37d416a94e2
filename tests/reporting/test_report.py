import dataclasses
import errno
import json
import math
import os
import struct
from pathlib import Path

import pytest
from metadata_fixtures import CONFIG, HISTORY, INFO, record, run_metadata
from PIL import Image
from test_log import epoch_rows

from jax_resnet.reporting import report as report_module
from jax_resnet.reporting.log import Final, render_log
from jax_resnet.reporting.report import Report
from jax_resnet.runtime.errors import UserError

VIEWS = ("config.json", "metrics.jsonl", "log.md", "summary.json")


@pytest.fixture(autouse=True)
def curves_only_at_the_end(monkeypatch):
    monkeypatch.setattr(report_module, "SECONDS_BETWEEN_CURVES", math.inf)


def read_events(folder):
    """Every event of every file, in the order in which TensorBoard reads them."""
    from tensorboardX.proto.event_pb2 import Event

    events = []
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            events.append(Event.FromString(data[12 : 12 + length]))
            data = data[16 + length :]
    return events


def scalars(folder) -> dict[str, dict[int, float]]:
    """What TensorBoard shows: on START it forgets the later steps."""
    from tensorboardX.proto.event_pb2 import SessionLog

    shown: dict[str, dict[int, float]] = {}
    for event in read_events(folder):
        if event.session_log.status == SessionLog.START:
            for series in shown.values():
                for step in [step for step in series if step >= event.step]:
                    del series[step]
        for value in event.summary.value:
            assert event.step not in shown.get(value.tag, {})
            shown.setdefault(value.tag, {})[event.step] = value.simple_value
    return shown


class Run:
    """A report and the record that it follows."""

    def __init__(self, workdir, history=()):
        self.record = run_metadata(history)
        self.report = Report(workdir, self.record)

    def add(self, epoch_record):
        history = [*self.record.history, epoch_record]
        self.record = dataclasses.replace(self.record, history=history)
        self.report.update(self.record)

    def finish(self, *, complete):
        self.report.finish(self.record, complete=complete)


def run(workdir, history=(), until=5, complete=None):
    begun = Run(workdir, history)
    for epoch in range(len(history) + 1, until + 1):
        begun.add(record(epoch))
    if complete is not None:
        begun.finish(complete=complete)
    return begun


@pytest.mark.slow
def test_files_of_a_complete_run(tmp_path):
    workdir = tmp_path / "runs" / "new"
    run(workdir, complete=True)
    names = {path.name for path in workdir.iterdir()}
    assert names == {*VIEWS, "curves.png", "tensorboard"}
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == HISTORY
    assert json.loads((workdir / "config.json").read_text()) == CONFIG
    summary = json.loads((workdir / "summary.json").read_text())
    assert summary == {
        "parameters": 861620,
        "epochs": 5,
        "epochs_done": 5,
        "complete": True,
        "last": HISTORY[4],
        "best": HISTORY[2],
        "selected_on": "test",
        "wall_seconds": 100.0,
        "compile_seconds": 7.5,
        "images_per_second": 3000.0,
        "device": "cpu",
        "versions": INFO.versions,
    }
    with Image.open(workdir / "curves.png") as picture:
        assert picture.format == "PNG"
    final = Final(True, 100.0, 7.5)
    assert (workdir / "log.md").read_text() == render_log(INFO, HISTORY, final)


@pytest.mark.slow
@pytest.mark.parametrize(("restored", "written"), [(2, 3), (4, 3)])
def test_resumed_files_equal_those_of_an_uninterrupted_run(tmp_path, restored, written):
    run(tmp_path / "whole", complete=True)
    workdir = tmp_path / "broken"
    run(workdir, until=written)
    with (workdir / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 6, "tr')
    resumed = run(workdir, history=HISTORY[:restored], until=restored)
    summary = json.loads((workdir / "summary.json").read_text())
    assert (summary["complete"], summary["epochs_done"]) == (False, restored)
    rows = epoch_rows((workdir / "log.md").read_text())
    assert [int(row[0].strip("*")) for row in rows] == [*range(1, restored + 1)]
    for new in HISTORY[restored:]:
        resumed.add(new)
    resumed.finish(complete=True)
    for name in (*VIEWS, "curves.png"):
        one, other = ((tmp_path / run / name) for run in ("whole", "broken"))
        assert one.read_bytes() == other.read_bytes(), name
    if restored <= written:
        shown = scalars(workdir / "tensorboard")
        assert list(shown["train/loss"]) == [r["step"] for r in HISTORY]


def test_every_epoch_is_on_disk_after_its_update(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    workdir = Path("s3:run")  # a folder, and no URL
    report = run(workdir, until=0)
    for epoch in (1, 2):
        report.add(record(epoch))
        assert len((workdir / "metrics.jsonl").read_text().splitlines()) == epoch
        assert len(epoch_rows((workdir / "log.md").read_text())) == epoch
    shown = scalars(workdir / "tensorboard")
    expected = {r["step"]: r["val_top1"] for r in HISTORY[:2]}
    assert shown["validation/top1"] == pytest.approx(expected)


def test_files_are_strict_json(tmp_path):
    report = run(tmp_path, until=0)
    report.add(record(1, val_loss=math.nan, train_loss=math.inf))
    report.finish(complete=False)

    def refuse(name):
        raise AssertionError(name)

    for name in ("metrics.jsonl", "summary.json"):
        json.loads((tmp_path / name).read_text(), parse_constant=refuse)
    line = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert line["val_loss"] is None and line["train_loss"] is None


def full_disk(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_leaves_the_previous_file(tmp_path, monkeypatch):
    report = run(tmp_path, until=2)
    before = {name: (tmp_path / name).read_bytes() for name in VIEWS}
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(UserError, match=r"metrics\.jsonl: No space left") as error:
        report.add(record(3))
    assert "\n" not in str(error.value)
    assert {name: (tmp_path / name).read_bytes() for name in VIEWS} == before
    assert not list(tmp_path.glob(".*"))


def test_places_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file/run: Not a directory"):
        run(tmp_path / "file" / "run")
    (tmp_path / "log.md").mkdir()
    with pytest.raises(UserError, match=r"log\.md: Is a directory"):
        run(tmp_path)
