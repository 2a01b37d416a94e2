"""Saves and reports behind the training loop, and their order."""

import json
import threading

import numpy as np
import pytest
from metadata_fixtures import record, run_metadata

from jax_resnet.checkpoint import store
from jax_resnet.checkpoint.writer import CheckpointWriter
from jax_resnet.distributed.processes import Processes
from jax_resnet.runtime.errors import UserError
from jax_resnet.training.metrics import RunningMetrics
from jax_resnet.training.run_writer import RunWriter
from jax_resnet.training.state import TrainState

VAL_TOP1 = [0.1, 0.5, 0.2, 0.3, 0.25]


def state(step):
    params = {"w": np.full(3, step, np.float32)}
    return TrainState(np.array(step, np.int32), params, {}, {"momentum": params})


def records():
    history = [record(n, val_top1=v) for n, v in enumerate(VAL_TOP1, start=1)]
    return [run_metadata(history[:n]) for n in range(1, len(history) + 1)]


@pytest.fixture
def saving(monkeypatch):
    """The steps whose save has begun, and the event that saves wait for."""
    begun, go_on, save = [], threading.Event(), CheckpointWriter.save

    def waiting(self, step, **trees):
        begun.append(step)
        assert go_on.wait(60)
        save(self, step, **trees)

    monkeypatch.setattr(CheckpointWriter, "save", waiting)
    return begun, go_on


def wait_until(condition):
    ticking = threading.Event()
    for _ in range(600):
        if condition():
            return
        ticking.wait(0.05)
    raise AssertionError


def has_failed(writer):
    try:
        writer.raise_failure()
    except UserError:
        return True
    return False


def reported(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["epoch"] for line in lines]


@pytest.mark.slow
def test_saves_that_cannot_keep_up(tmp_path, saving):
    begun, go_on = saving
    with RunWriter(tmp_path, Processes(), run_metadata(), keep_latest=2) as writer:
        for epoch, of_epoch in enumerate(records(), start=1):
            writer.save_epoch(state(epoch), of_epoch)
            wait_until(lambda: begun)
        # No epoch is reported before its checkpoint is there.
        assert reported(tmp_path) == []
        go_on.set()
        writer.complete = True
    # The newest, and before it the best.
    assert begun == [1, 2, 5]
    assert reported(tmp_path) == [1, 2, 3, 4, 5]
    assert store.saved_steps(tmp_path) == [2, 5]
    assert store.select(tmp_path, "best").step == 2
    assert json.loads((tmp_path / "summary.json").read_text())["complete"] is True


@pytest.mark.slow
def test_several_processes_save_each_epoch(tmp_path, saving):
    begun, go_on = saving
    go_on.set()
    with RunWriter(tmp_path, Processes(2), run_metadata(), keep_latest=2) as writer:
        for epoch, of_epoch in enumerate(records(), start=1):
            writer.save_epoch(state(epoch), of_epoch)
            assert begun == [*range(1, epoch + 1)]
            assert reported(tmp_path) == [*range(1, epoch)]
    assert reported(tmp_path) == [1, 2, 3, 4, 5]
    assert store.saved_steps(tmp_path) == [2, 4, 5]


@pytest.mark.slow
def test_a_state_within_an_epoch(tmp_path):
    first, second, *_ = records()
    with RunWriter(tmp_path, Processes(), run_metadata(), keep_latest=2) as writer:
        writer.save_epoch(state(1), first)
        writer.save_epoch(state(2), second)
        writer.save_interrupted(state(3), RunningMetrics.zeros(), second)
    latest = store.select(tmp_path, "latest")
    assert (latest.step, latest.metrics) == (3, None)
    np.testing.assert_array_equal(latest.arrays("model")["state.params.w"], [3, 3, 3])
    assert store.select(tmp_path, "best").step == 2
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (summary["complete"], summary["epochs_done"]) == (False, 2)


def test_a_failure_is_raised_where_training_sees_it(tmp_path, monkeypatch):
    def full(self, step, **trees):
        raise UserError(f"no room for step {step}")

    monkeypatch.setattr(CheckpointWriter, "save", full)
    first, second, *_ = records()
    with (
        pytest.raises(UserError, match="no room for step 1"),
        RunWriter(tmp_path, Processes(), run_metadata(), keep_latest=2) as writer,
    ):
        writer.save_epoch(state(1), first)
        wait_until(lambda: has_failed(writer))
        writer.complete = True
        writer.save_epoch(state(2), second)
    assert json.loads((tmp_path / "summary.json").read_text())["complete"] is False
    assert reported(tmp_path) == []


def test_a_file_that_is_written_behind_training(tmp_path):
    def written_in(folder, name, processes):
        workdir = tmp_path / folder
        with RunWriter(workdir, processes, run_metadata(), keep_latest=1) as writer:
            writer.write_behind(name, lambda: b"picture")
        return workdir / name

    first, second = Processes(2, 0), Processes(2, 1)
    assert written_in("first", "picture.png", first).read_bytes() == b"picture"
    assert not written_in("second", "picture.png", second).exists()
    with pytest.raises(UserError, match=r"cannot write .*picture\.png: Not a dir"):
        written_in("third", "log.md/picture.png", Processes())
