import errno
import json
import math
import os
import re
import struct
import subprocess
import sys
from dataclasses import asdict, replace

import numpy as np
import pytest
from PIL import Image

from jax_resnet import report as report_module
from jax_resnet.errors import UserError
from jax_resnet.history import (
    EpochRecord,
    Final,
    RunInfo,
    best_epoch,
    draw_curves,
    installed_versions,
    render_log,
)
from jax_resnet.report import Report, write_atomically

INFO = RunInfo(
    title="resnet56",
    command="python -m jax_resnet.train --config configs/resnet56.py",
    started="2026-01-02T03:04:05+00:00",
    device="cpu",
    platform="Linux x86_64",
    versions={"python": "3.11.7", "jax": "0.10.2"},
    parameters=861620,
    epochs=5,
    dataset="cifar100",
    n_train=50000,
    n_eval=10000,
    eval_name="test",
    batch_size=128,
    seed=0,
    dtype="float32",
)
TOP1 = [0.10, 0.30, 0.4321, 0.4321, 0.40]
VIEWS = ("config.json", "metrics.jsonl", "log.md")


def record(epoch: int, **changes) -> EpochRecord:
    values = EpochRecord(
        epoch=epoch,
        step=391 * epoch,
        train_loss=4 - epoch / 8,
        train_top1=0.05 * epoch,
        val_loss=4.2 - epoch / 7,
        val_top1=TOP1[epoch - 1],
        val_top5=0.1 * epoch + 0.2,
        learning_rate=0.1 / epoch,
        seconds=10.0 + epoch,
        images_per_second=1000.0 * epoch,
    )
    return {**values, **changes}


HISTORY = [record(epoch) for epoch in range(1, 6)]


@pytest.fixture(autouse=True)
def curves_only_at_the_end(monkeypatch):
    monkeypatch.setattr(report_module, "SECONDS_BETWEEN_CURVES", math.inf)


def epoch_rows(log: str) -> list[list[str]]:
    table = log.split("## Epochs")[1].split("## Result")[0]
    rows = [line.strip("| ").split(" | ") for line in table.split("\n")]
    return [row for row in rows if row[0].strip("*").isdigit()]


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


def run(workdir, info=INFO, history=(), until=5, **ending):
    report = Report(workdir, info, history, {"seed": 0})
    for epoch in range(len(history) + 1, until + 1):
        report.add(record(epoch))
    if ending:
        report.finish(wall_seconds=100.0, compile_seconds=7.5, **ending)
    return report


def test_files_of_a_complete_run(tmp_path):
    workdir = tmp_path / "runs" / "new"
    run(workdir, complete=True)
    names = {path.name for path in workdir.iterdir()}
    assert names == {*VIEWS, "curves.png", "summary.json", "tensorboard"}
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == HISTORY
    assert json.loads((workdir / "config.json").read_text()) == {"seed": 0}
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


@pytest.mark.parametrize(
    ("restored", "written"), [(0, 3), (2, 3), (3, 3), (4, 3), (4, 5)]
)
def test_resumed_files_equal_those_of_an_uninterrupted_run(tmp_path, restored, written):
    run(tmp_path / "whole", complete=True)
    workdir = tmp_path / "broken"
    run(workdir, until=written, **({"complete": False} if written == 5 else {}))
    with (workdir / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 6, "tr')
    resumed = run(workdir, history=HISTORY[:restored], until=restored)
    assert not (workdir / "summary.json").exists()
    rows = epoch_rows((workdir / "log.md").read_text())
    assert [int(row[0].strip("*")) for row in rows] == [*range(1, restored + 1)]
    for new in HISTORY[restored:]:
        resumed.add(new)
    resumed.finish(complete=True, wall_seconds=100.0, compile_seconds=7.5)
    for name in (*VIEWS, "summary.json", "curves.png"):
        one, other = ((tmp_path / run / name) for run in ("whole", "broken"))
        assert one.read_bytes() == other.read_bytes(), name
    if restored <= written:
        shown = scalars(workdir / "tensorboard")
        assert list(shown["train/loss"]) == [r["step"] for r in HISTORY]


def test_tensorboard_values(tmp_path):
    run(tmp_path, complete=True)
    events = read_events(tmp_path / "tensorboard")
    assert events[0].file_version == "brain.Event:2"
    keys = {
        "train/loss": "train_loss",
        "train/top1": "train_top1",
        "validation/loss": "val_loss",
        "validation/top1": "val_top1",
        "validation/top5": "val_top5",
        "learning_rate": "learning_rate",
        "images_per_second": "images_per_second",
    }
    shown = scalars(tmp_path / "tensorboard")
    assert set(shown) == set(keys)
    for tag, key in keys.items():
        assert shown[tag] == pytest.approx({r["step"]: r[key] for r in HISTORY})


def test_every_epoch_is_on_disk_once_add_returns(tmp_path):
    report = run(tmp_path, until=0)
    for epoch in range(1, 6):
        report.add(record(epoch))
        assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == epoch
        assert len(epoch_rows((tmp_path / "log.md").read_text())) == epoch
        assert len(scalars(tmp_path / "tensorboard")["train/loss"]) == epoch


def test_log_shows_the_records():
    log = render_log(INFO, HISTORY[:4], None)
    assert log.startswith("# resnet56\n\n**Unfinished: epochs 4 of 5.**\n")
    for text in ("861,620", "`test`", "cifar100: 50,000", "jax 0.10.2", INFO.command):
        assert text in log
    rows = epoch_rows(log)
    assert rows[0] == ["1", "3.8750", "5.00", "4.0571", "10.00", "30.00", "0.1", "11.0"]
    # The first of two equals is the best so far, and it alone is bold.
    assert [row[0] for row in rows] == ["1", "2", "**3**", "4"]
    assert rows[2][4] == "**43.21**"
    assert "## Result" not in log


def test_log_of_the_end_tells_how_the_best_was_selected():
    final = Final(True, 3725.0, 31.26)
    log = render_log(INFO, HISTORY, final)
    assert "Finished: epochs 5 of 5." in log and "Unfinished" not in log
    result = log.split("## Result\n")[1]
    assert re.search(r"\| last \| 5 \|.*\| 40.00 \|", result)
    assert re.search(r"\| best \| 3 \|.*\| 43.21 \|", result)
    assert "optimistic. Last is the figure to quote." in result
    assert "3,725 s in all, 31.3 s" in result and "3,000 images/s" in result
    part = render_log(replace(INFO, eval_name="test[:5000]"), HISTORY, final)
    assert "optimistic" in part
    held = render_log(replace(INFO, eval_name="holdout"), HISTORY, final)
    assert "selected on `holdout`" in held and "figure to quote" not in held
    stopped = render_log(INFO, HISTORY[:2], Final(False, 1.0, 1.0))
    assert "**Unfinished: epochs 2 of 5.**" in stopped and "## Result so far" in stopped


def test_tables_keep_their_columns():
    log = render_log(replace(INFO, command="a | b"), HISTORY, Final(True, 1.0, 1.0))
    for table in re.findall(r"(?:^\|.*\n)+", log, re.MULTILINE):
        assert (
            len({len(re.findall(r"(?<!\\)\|", row)) for row in table.split("\n")[:-1]})
            == 1
        )


def test_best_is_the_first_of_equals_and_never_nan():
    assert best_epoch([]) is None
    assert best_epoch(HISTORY) is HISTORY[2]
    assert best_epoch([record(1, val_top1=math.nan), *HISTORY[1:2]]) is HISTORY[1]
    assert best_epoch([record(1, val_top1=math.nan)]) is None


def test_stopped_before_the_first_epoch(tmp_path):
    run(tmp_path, until=0, complete=False)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["last"], summary["best"], summary["epochs_done"]) == (None, None, 0)
    assert summary["images_per_second"] is None
    assert "**Unfinished: epochs 0 of 5.**" in (tmp_path / "log.md").read_text()


def test_files_are_strict_json(tmp_path):
    report = run(tmp_path, until=0)
    report.add(record(1, val_loss=math.nan, train_loss=math.inf))
    report.finish(complete=False, wall_seconds=1.0, compile_seconds=0.0)

    def refuse(name):
        raise AssertionError(name)

    for name in ("metrics.jsonl", "summary.json"):
        json.loads((tmp_path / name).read_text(), parse_constant=refuse)
    line = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert line["val_loss"] is None and line["train_loss"] is None


def test_epochs_come_in_order(tmp_path):
    with pytest.raises(ValueError, match="1, 2, 3"):
        Report(tmp_path, INFO, HISTORY[1:], {})
    report = run(tmp_path, until=2)
    for epoch in (2, 4):
        with pytest.raises(ValueError, match="after 2"):
            report.add(record(epoch))


def test_info_goes_through_json():
    assert RunInfo(**json.loads(json.dumps(asdict(INFO)))) == INFO
    versions = installed_versions()
    assert versions["numpy"] == np.__version__
    assert {"python", "jax", "jaxlib", "flax", "optax", "jax_resnet"} < set(versions)


@pytest.mark.parametrize("epochs", [1, 2, 5])
def test_curves_are_a_picture_of_the_history(tmp_path, epochs):
    picture = draw_curves(INFO, HISTORY[:epochs])
    (tmp_path / "a.png").write_bytes(picture)
    pixels = np.asarray(Image.open(tmp_path / "a.png").convert("RGB"))
    assert pixels.shape == (576, 1320, 3)
    for colour in ((31, 119, 180), (255, 127, 14), (214, 39, 40)):  # two lines, a star
        assert (pixels == colour).all(axis=-1).sum() > 20
    assert draw_curves(INFO, HISTORY[:epochs]) == picture


def test_curves_are_redrawn_now_and_then(tmp_path, monkeypatch):
    report = run(tmp_path, until=0)
    drawn = []
    monkeypatch.setattr(report_module, "SECONDS_BETWEEN_CURVES", 30.0)
    monkeypatch.setattr(
        report_module, "draw_curves", lambda _, h: drawn.append(len(h)) or b""
    )
    now = [0.0, 10.0, 29.0, 31.0, 62.0]
    for epoch, seconds in enumerate(now, start=1):
        monkeypatch.setattr(report_module.time, "monotonic", lambda s=seconds: s)
        report.add(record(epoch))
    assert drawn == [1, 4, 5]


def full_disk(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_leaves_the_previous_file(tmp_path, monkeypatch):
    report = run(tmp_path, until=2)
    before = {name: (tmp_path / name).read_bytes() for name in VIEWS}
    monkeypatch.setattr(report_module.os, "fsync", full_disk)
    with pytest.raises(UserError, match=r"metrics\.jsonl: No space left") as error:
        report.add(record(3))
    assert "\n" not in str(error.value)
    assert {name: (tmp_path / name).read_bytes() for name in VIEWS} == before
    assert not list(tmp_path.glob(".*"))


def test_tensorboard_on_a_full_disk_is_a_user_error_and_does_not_hang(
    tmp_path, monkeypatch
):
    report = run(tmp_path, until=1)
    monkeypatch.setattr(report._events._writer, "flush", full_disk)
    with pytest.raises(UserError, match=r"tensorboard: No space left"):
        report.add(record(2))


def test_places_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file/run: Not a directory"):
        Report(tmp_path / "file" / "run", INFO, [], {})
    (tmp_path / "log.md").mkdir()
    with pytest.raises(UserError, match=r"log\.md: Is a directory"):
        Report(tmp_path, INFO, [], {})
    with pytest.raises(UserError, match=r"missing/x: No such file"):
        write_atomically(tmp_path / "missing" / "x", b"")


def test_import_is_light():
    code = (
        "import sys, jax_resnet.report;"
        "print({'jax', 'matplotlib', 'tensorboardX', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr
