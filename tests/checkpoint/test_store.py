import contextlib
import json
import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from jax_resnet.checkpoint import storage, store, writer
from jax_resnet.checkpoint.writer import CheckpointWriter
from jax_resnet.runtime.errors import UserError


def set_aside_damaged(workdir):
    return list(store.set_aside(workdir, store.find_damaged(workdir)))


def trees(step):
    generator = np.random.default_rng(step)
    model = {
        "state.params.head.kernel": generator.standard_normal((8, 5), np.float32),
        "state.batch_stats.stem.mean": generator.standard_normal(8, np.float32),
    }
    training = {
        "state.step": np.asarray(step, np.int32),
        "state.opt_state.0.trace": generator.standard_normal((8, 5), np.float32),
    }
    return {"model": model, "training": training}


def save(writer, step, val_top1=None):
    metrics = None if val_top1 is None else {"val_top1": val_top1, "epoch": step}
    metadata = {"note": "é", "nothing": None}
    writer.save(step, **trees(step), metadata=metadata, metrics=metrics)


def assert_sound(workdir, which, step):
    chosen = store.select(workdir, which)
    assert (chosen.step, chosen.metadata["note"]) == (step, "é")
    for name, expected in trees(step).items():
        found = chosen.arrays(name)
        assert set(found) == set(expected)
        for key, array in expected.items():
            assert found[key].dtype == array.dtype
            np.testing.assert_array_equal(found[key], array)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Epochs 1 to 5, of which 2 and 3 are equally good, then an unfinished one."""
    workdir = tmp_path_factory.mktemp("run")
    writer = CheckpointWriter(workdir)
    for step, val_top1 in enumerate([0.1, 0.5, 0.5, 0.3, 0.2], start=1):
        save(writer, step, val_top1)
    save(writer, 6)
    writer.close()
    return workdir


@pytest.fixture
def workdir(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "copy")


def test_best_and_latest_are_kept_and_restored(saved):
    kept = {p.name for p in store.directory(saved).iterdir()}
    assert kept == {"2", "5", "6"}
    assert_sound(saved, "best", 2)
    assert_sound(saved, "latest", 6)
    assert_sound(saved, "5", 5)


@pytest.mark.parametrize("which", ["3", "worst", "٣", "02"])
def test_steps_that_do_not_exist_are_refused(saved, which):
    with pytest.raises(UserError, match=r"best, latest or a step.*2, 5, 6"):
        store.select(saved, which)


def test_a_run_without_checkpoints_or_complete_epochs_is_refused(tmp_path):
    with pytest.raises(UserError, match="no checkpoint in"):
        store.select(tmp_path, "best")
    writer = CheckpointWriter(tmp_path)
    save(writer, 1)
    writer.close()
    with pytest.raises(UserError, match=r"no epoch .* is complete"):
        store.select(tmp_path, "best")


def test_a_step_that_is_saved_again_is_replaced(workdir):
    writer = CheckpointWriter(workdir)
    save(writer, 6, 0.9)
    writer.close()
    assert_sound(workdir, "best", 6)


@pytest.mark.parametrize("name", ["[1]", "a\\b ** {x}?\n", "logs:/\udcff", "x/.."])
def test_a_folder_may_have_any_name(tmp_path, name):
    workdir = tmp_path / name / "run"
    writer = CheckpointWriter(workdir)
    save(writer, 1, 0.5)
    writer.close()
    assert_sound(workdir, "best", 1)
    assert store.find_damaged(workdir) == []


def test_a_folder_that_looks_like_a_bucket_to_orbax_gets_another_path():
    with pytest.raises(FileNotFoundError), storage.plain_path(Path("/s3/run")):
        pass


def test_other_systems_than_linux_need_a_plain_path(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "_OPEN_FOLDERS", tmp_path / "none")
    CheckpointWriter(tmp_path / "a run, größer").close()
    with pytest.raises(UserError, match="its path may have letters"):
        CheckpointWriter(tmp_path / "[1]")


def test_orbax_gets_no_path_in_another_encoding_than_utf8(tmp_path, monkeypatch):
    (tmp_path / "größer").mkdir()
    for encoding, is_as_it_is in (("utf-8", True), ("iso8859-1", False)):
        monkeypatch.setattr(storage.sys, "getfilesystemencoding", lambda e=encoding: e)
        for name, expected in (("größer", is_as_it_is), ("", True)):
            with storage.plain_path(tmp_path / name) as plain:
                assert (plain == tmp_path / name) is expected
                assert plain.samefile(tmp_path / name)


def test_a_save_that_orbax_loses_in_silence_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "plain_path", contextlib.nullcontext)
    lossy = CheckpointWriter(tmp_path / "[1]")
    save(lossy, 1, 0.5)
    with pytest.raises(UserError, match="step 1: it cannot be read back: arrays of"):
        lossy.close()


FILES = ["_CHECKPOINT_METADATA", "*/_METADATA", "*/manifest.ocdbt", "*/d/*"]


@pytest.mark.parametrize("pattern", FILES)
@pytest.mark.parametrize("damage", [Path.unlink, lambda path: os.truncate(path, 20)])
def test_a_save_with_a_file_missing_or_cut_off_is_noticed(workdir, pattern, damage):
    step = store.directory(workdir) / "6"
    names = {tree: set(arrays) for tree, arrays in trees(6).items()}
    storage.check_saved(step, names)
    damage(max(step.glob(pattern), key=lambda path: path.stat().st_size))
    with pytest.raises((OSError, ValueError)):
        storage.check_saved(step, names)


def test_what_cannot_be_read_here_is_not_called_damaged(workdir, monkeypatch):
    def fail(*_, **__):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(store, "digest_arrays", fail)
        with pytest.raises(MemoryError):
            store.find_damaged(workdir)
    (store.directory(workdir) / "6" / "_CHECKPOINT_METADATA").write_bytes(b"")
    monkeypatch.setattr(os, "access", lambda path, mode: path.name != "model")
    with pytest.raises(UserError, match="6/model' may not be read"):
        store.select(workdir, "6")


@pytest.mark.slow
def test_runs_in_one_process_save_at_the_same_moment(tmp_path):
    together = threading.Barrier(2, timeout=60)

    def run(name):
        writer = CheckpointWriter(tmp_path / name)
        for step in range(1, 6):
            together.wait()
            save(writer, step)
        writer.close()

    with ThreadPoolExecutor() as pool:
        list(pool.map(run, ("a", "b")))
    for name in ("a", "b"):
        assert_sound(tmp_path / name, "4", 4)
        assert_sound(tmp_path / name, "5", 5)


def test_unfinished_saves_are_ignored(workdir):
    root = store.directory(workdir)
    shutil.copytree(root / "6", root / "7.orbax-checkpoint-tmp")
    assert_sound(workdir, "latest", 6)
    assert set_aside_damaged(workdir) == []


@pytest.mark.slow
def test_flipped_bytes_never_load(workdir):
    caught = 0
    for file in (store.directory(workdir) / "6").rglob("*"):
        before = file.read_bytes() if file.is_file() else b""
        for position in range(len(before) // 3, len(before), 300):
            flipped = bytearray(before)
            flipped[position] ^= 1
            file.write_bytes(flipped)
            try:
                assert_sound(workdir, "6", 6)  # what loads must be what was saved
            except store.DamagedCheckpointError:
                caught += 1
            file.write_bytes(before)
    assert caught  # orbax never reads some of its bytes


def test_changed_metadata_never_loads(workdir):
    path = store.directory(workdir) / "6" / "_CHECKPOINT_METADATA"
    path.write_text(path.read_text().replace('"nothing": null', '"nothing": 1'))
    with pytest.raises(store.DamagedCheckpointError, match="damaged"):
        store.select(workdir, "6")


def test_a_run_goes_on_without_its_damaged_steps(workdir, caplog):
    root = store.directory(workdir)
    (root / "6" / "model" / "manifest.ocdbt").write_bytes(b"")
    (root / "2" / "metrics" / "metrics").write_text(json.dumps({"val_top1": 0.9}))
    assert_sound(workdir, "latest", 5)
    assert "ignoring the damaged checkpoint" in caplog.text
    notes = set_aside_damaged(workdir)
    assert ["damaged-2" in notes[0], "damaged-6" in notes[1]] == [True, True]
    assert_sound(workdir, "latest", 5)
    CheckpointWriter(workdir).close()


def test_a_run_without_a_sound_step_is_refused(workdir):
    for step in (2, 5, 6):
        path = store.directory(workdir) / str(step) / "_CHECKPOINT_METADATA"
        path.write_text("{}")
    for read in (set_aside_damaged, lambda workdir: store.select(workdir, "latest")):
        with pytest.raises(UserError, match="every checkpoint"):
            read(workdir)


def test_a_newer_format_is_named(workdir, monkeypatch):
    monkeypatch.setattr(store, "FORMAT_VERSION", 2)
    with pytest.raises(UserError, match="has format 1"):
        store.select(workdir, "latest")


def test_a_full_disk_is_noticed_before_anything_is_written(workdir, monkeypatch):
    writer = CheckpointWriter(workdir)
    before = sorted(store.directory(workdir).rglob("*"))
    full = shutil.disk_usage(workdir)._replace(free=2**20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    with pytest.raises(UserError, match="step 7: no space left on the disk; the one"):
        save(writer, 7)
    writer.close()
    assert sorted(store.directory(workdir).rglob("*")) == before


def test_a_failed_save_is_named_and_the_one_before_intact(workdir):
    writer = CheckpointWriter(workdir)
    root = store.directory(workdir)
    moved = root.rename(root.with_name("moved"))
    with pytest.raises(UserError, match="cannot save the checkpoint of step 7"):
        save(writer, 7)
    moved.rename(root)
    assert_sound(workdir, "latest", 6)
