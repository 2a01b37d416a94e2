"""Damaged checkpoints: never loaded, and done without."""

import json
import random
import shutil
from itertools import product

import pytest
from command_line import assert_one_line, assert_same_run, run, set_aside_damaged
from damages import DAMAGES, files_of, flip

from jax_resnet.checkpoint import store
from jax_resnet.checkpoint.store import Checkpoint, DamagedCheckpointError

BEST, LATEST = 16, 24  # the steps that the finished run keeps


def by_size(generator, files):
    """One of them, as likely as it has bytes."""
    return generator.choices(files, [p.stat().st_size for p in files])[0]


def step_of(workdir, step):
    return store.directory(workdir) / str(step)


def is_saved(found, saved):
    """Whether all of a checkpoint is what was saved, to the bit."""
    expected, trees = saved[found.step]
    assert found == Checkpoint(found.path, found.step, *expected)
    for name, tree in trees.items():
        arrays = found.arrays(name)
        assert set(arrays) == set(tree)
        for key, array in tree.items():
            assert arrays[key].dtype == array.dtype
            assert arrays[key].tobytes() == array.tobytes()
    return True


@pytest.fixture(scope="module")
def saved(finished):
    """What the steps of the run hold."""
    found = [Checkpoint.open(step_of(finished, step)) for step in (BEST, LATEST)]
    return {
        c.step: ((c.metrics, c.metadata), {n: c.arrays(n) for n in store.TREES})
        for c in found
    }


@pytest.fixture
def workdir(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


def undone(workdir, step, path, damage):
    """Damages a file of a step for the time of a loop's body."""
    before, folder = path.read_bytes(), step_of(workdir, step)
    aside = folder.with_name(f"damaged-{step}")
    damage(path)
    yield
    if aside.exists():
        aside.rename(folder)
    path.write_bytes(before)


def assert_replaced(workdir, step, saved, caplog):
    """A damaged step never loads; the other one does, and it is said."""
    other = BEST + LATEST - step
    with pytest.raises(DamagedCheckpointError, match="is damaged; use another step"):
        store.select(workdir, str(step))
    caplog.clear()
    found = store.select(workdir, "latest" if step == LATEST else "best")
    assert found.step == other
    assert is_saved(found, saved)
    assert f"checkpoints/{step}' is damaged; another one is used" in caplog.text
    (note,) = set_aside_damaged(workdir)
    assert f"set aside as damaged-{step}" in note
    assert store.select(workdir, "latest").step == other


@pytest.mark.parametrize("kind", DAMAGES)
def test_every_file_damaged(workdir, saved, many, tally, caplog, kind):
    faults = tally(f"a file of a checkpoint {kind}")
    cases = [
        (step, path)
        for step in (LATEST, BEST)
        for path in files_of(step_of(workdir, step))
        if (kind, path.name) != ("deleted", "manifest.json")
    ]
    start = list(DAMAGES).index(kind)  # so that few are each time others
    for step, path in cases[start * many(3, 0) :: many(9, 1)]:
        for _ in undone(workdir, step, path, DAMAGES[kind]):
            faults.injected()
            assert_replaced(workdir, step, saved, caplog)
            faults.survived()


def test_flipped_bits(workdir, saved, many, tally, caplog):
    faults = tally("a bit of a checkpoint flipped")
    generator = random.Random(0)
    for number in range(many(20, 200)):
        step = generator.choice([BEST, LATEST])
        files = files_of(step_of(workdir, step))
        # Half of them in files as they come, most of which are small.
        path = by_size(generator, files) if number % 2 else generator.choice(files)
        for _ in undone(workdir, step, path, lambda p: flip(p, generator)):
            faults.injected()
            assert_replaced(workdir, step, saved, caplog)
            faults.survived()


def test_without_a_manifest(workdir, saved, many, tally):
    """As a process leaves a step that is killed before the manifest is written."""
    faults = tally("the manifest of a checkpoint deleted")
    flips = tally("the manifest of a checkpoint deleted, and a bit flipped")
    for step in (BEST, LATEST):
        faults.injected()
        (step_of(workdir, step) / "manifest.json").unlink()
        assert is_saved(store.select(workdir, str(step)), saved)
        assert set_aside_damaged(workdir) == []
        faults.survived()
    generator = random.Random(1)
    refused = 0
    for number in range(many(10, 200)):
        files = files_of(step_of(workdir, LATEST))
        path = by_size(generator, files) if number % 2 else generator.choice(files)
        for _ in undone(workdir, LATEST, path, lambda p: flip(p, generator)):
            flips.injected()
            try:
                assert is_saved(store.select(workdir, str(LATEST)), saved)
            except DamagedCheckpointError:
                refused += 1
                assert is_saved(store.select(workdir, "latest"), saved)
            notes = set_aside_damaged(workdir)
            step = store.select(workdir, "latest").step
            assert step == (BEST if notes else LATEST)
            flips.survived()
    assert refused > many(10, 200) / 3  # orbax does not read all that it writes


@pytest.mark.slow
def test_the_real_commands(tiny, finished, tmp_path, many, tally):
    faults = tally("a damaged checkpoint met by the real commands")
    generator = random.Random(2)
    cases = [
        (LATEST, "model", lambda path: flip(path, generator)),
        *product((LATEST, BEST), ("model", "training"), DAMAGES.values()),
    ]
    for number, (step, tree, damage) in enumerate(cases[: many(1, 7)]):
        workdir = shutil.copytree(finished, tmp_path / str(number))
        damage(by_size(generator, files_of(step_of(workdir, step) / tree)))
        faults.injected()
        evaluate = {"module": "evaluate"}
        result = run(tiny, workdir, "--checkpoint", str(step), **evaluate)
        assert_one_line(result, f"checkpoints/{step}' is damaged; use another step")
        which = "latest" if step == LATEST else "best"
        result = run(tiny, workdir, "--checkpoint", which, **evaluate)
        assert result.returncode == 0, result.stderr
        assert f"checkpoints/{step}' is damaged; another one is used" in result.stderr
        report = json.loads((workdir / "evaluation-test.json").read_text())
        assert report["step"] == BEST + LATEST - step
        result = run(tiny, workdir)
        assert result.returncode == 0, result.stderr
        assert f"set aside as damaged-{step}" in result.stdout
        assert_same_run(workdir, finished)
        faults.survived()
