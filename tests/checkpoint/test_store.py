import json
import os
import random
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from command_line import set_aside_damaged

from jax_resnet.checkpoint import store
from jax_resnet.checkpoint.writer import CheckpointWriter
from jax_resnet.runtime.errors import UserError


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
    return model, training


def save(writer, step, val_top1=None):
    model, training = trees(step)
    metrics = None if val_top1 is None else {"val_top1": val_top1, "epoch": step}
    history = [{"val_top1": val_top1, "note": "é", "nothing": None}]
    writer.save(
        step,
        model=model,
        training=training,
        metadata={"history": history},
        metrics=metrics,
    )


def assert_sound(workdir, which, step):
    chosen = store.select(workdir, which)
    assert chosen.step == step
    assert chosen.metadata["history"][0]["note"] == "é"
    for name, expected in zip(store.TREES, trees(step), strict=True):
        tree = chosen.arrays(name)
        assert set(tree) == set(expected)
        for key, array in expected.items():
            assert tree[key].dtype == array.dtype
            np.testing.assert_array_equal(tree[key], array)


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


@pytest.mark.parametrize("which", ["3", "-1", "worst", "٣", "2.0", "02", "9" * 5000])
def test_steps_that_are_not_there(saved, which):
    with pytest.raises(UserError, match=r"best, latest or a step.*2, 5, 6"):
        store.select(saved, which)


def test_no_checkpoint_at_all(tmp_path):
    assert not store.exists(tmp_path)
    with pytest.raises(UserError, match="no checkpoint in"):
        store.select(tmp_path, "best")


def test_an_unfinished_epoch_is_never_the_best(tmp_path):
    writer = CheckpointWriter(tmp_path)
    save(writer, 1)
    writer.close()
    with pytest.raises(UserError, match=r"no epoch .* is complete"):
        store.select(tmp_path, "best")


def test_saving_a_step_again_replaces_it(workdir):
    writer = CheckpointWriter(workdir)
    save(writer, 6, 0.9)
    writer.close()
    assert_sound(workdir, "best", 6)


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
    shutil.copytree(
        store.directory(workdir) / "6",
        store.directory(workdir) / "7.orbax-checkpoint-tmp",
    )
    (store.directory(workdir) / "²").mkdir()  # a digit, but no number
    assert_sound(workdir, "latest", 6)
    assert set_aside_damaged(workdir) == []


def test_a_link_to_itself_is_no_checkpoint(tmp_path):
    store.directory(tmp_path).symlink_to("checkpoints")
    with pytest.raises(UserError, match="no checkpoint in"):
        store.select(tmp_path, "best")


@pytest.mark.parametrize("name", ["model", "training"])
def test_flipped_bits_never_load(workdir, name):
    root = store.directory(workdir) / "6" / name
    files = sorted(p for p in root.rglob("*") if p.is_file() and p.stat().st_size)
    generator = random.Random(0)
    for file in generator.choices(files, [p.stat().st_size for p in files], k=20):
        before = file.read_bytes()
        bit = generator.randrange(8 * len(before))
        flipped = bytearray(before)
        flipped[bit // 8] ^= 1 << bit % 8
        file.write_bytes(flipped)
        with pytest.raises(store.DamagedCheckpointError):
            store.select(workdir, "6")
        file.write_bytes(before)


def test_flipped_bits_never_load_without_a_manifest_either(workdir):
    (store.directory(workdir) / "6" / "manifest.json").unlink()
    assert_sound(workdir, "6", 6)
    root = store.directory(workdir) / "6" / "model"
    caught = 0
    for file in sorted(p for p in root.rglob("*") if p.is_file()):
        before = file.read_bytes()
        for position in range(len(before) // 3, len(before), 97):
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
    text = path.read_text()
    for old, new in [('"step": 6', '"step": 7'), ('"nothing": null', '"nothing": 1')]:
        assert old in text
        path.write_text(text.replace(old, new))
        with pytest.raises(store.DamagedCheckpointError, match="damaged"):
            store.select(workdir, "6")


def test_every_file_emptied_or_deleted_is_survived(workdir):
    root = store.directory(workdir)
    pristine = workdir.with_name("pristine")
    shutil.copytree(root, pristine)
    files = sorted(p for p in (root / "6").rglob("*") if p.is_file())
    set_aside = 0
    for file in files:
        for damage in (lambda f: f.write_bytes(b""), lambda f: f.unlink()):
            damage(file)
            set_aside += len(set_aside_damaged(workdir))
            step = store.select(workdir, "latest").step
            assert_sound(workdir, "latest", step)
            CheckpointWriter(workdir).close()  # orbax itself can go on from here
            shutil.rmtree(root)
            shutil.copytree(pristine, root)
    assert set_aside == 2 * len(files) - 1  # a deleted manifest is no damage


def test_damaged_steps_are_set_aside_by_name(workdir):
    root = store.directory(workdir)
    (root / "6" / "model" / "manifest.ocdbt").write_bytes(b"")
    (root / "2" / "metrics" / "metrics").write_text(json.dumps({"val_top1": 0.9}))
    notes = set_aside_damaged(workdir)
    assert ["damaged-2" in notes[0], "damaged-6" in notes[1]] == [True, True]
    assert_sound(workdir, "latest", 5)


@pytest.mark.parametrize("name", ["manifest.json", "_CHECKPOINT_METADATA", "more"])
def test_a_pipe_is_damage_and_not_read(workdir, name):
    path = store.directory(workdir) / "6" / name
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    with pytest.raises(store.DamagedCheckpointError):
        store.select(workdir, "6")


def test_nothing_sound_is_an_error(workdir):
    root = store.directory(workdir)
    for step in (2, 5, 6):
        (root / str(step) / "_CHECKPOINT_METADATA").write_text("{}")
    with pytest.raises(UserError, match="every checkpoint"):
        set_aside_damaged(workdir)


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
