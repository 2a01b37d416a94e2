"""Damaged checkpoints never load, and a run goes on without them."""

import json
import random
import shutil
from itertools import product

import pytest
from command_line import assert_one_line, assert_same_run, run_here, set_aside_damaged
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


def assert_survived(workdir, step, path, damage, saved):
    """Damages a file of a step, looks, and repairs it; whether it was noticed."""
    before, folder = path.read_bytes(), step_of(workdir, step)
    other = BEST + LATEST - step
    damage(path)
    try:
        # Orbax does not read all that it writes: what loads has to be what was saved.
        is_saved(Checkpoint.open(folder), saved)
    except DamagedCheckpointError:
        notes = set_aside_damaged(workdir)
        assert f"set aside as damaged-{step}" in notes[0]
        is_saved(store.select(workdir, "latest"), saved)
        assert store.select(workdir, "best").step == other
        folder.with_name(f"damaged-{step}").rename(folder)
        noticed = True
    else:
        noticed = False
    path.write_bytes(before)
    return noticed


@pytest.mark.slow
@pytest.mark.parametrize("kind", DAMAGES)
def test_every_file_damaged(workdir, saved, many, tally, kind):
    faults = tally(f"a file of a checkpoint {kind}")
    files = [(s, p) for s in (LATEST, BEST) for p in files_of(step_of(workdir, s))]
    noticed = 0
    for step, path in files[:: many(13, 1)]:
        faults.injected()
        noticed += assert_survived(workdir, step, path, DAMAGES[kind], saved)
        faults.survived()
    assert noticed


@pytest.mark.slow
def test_flipped_bits(workdir, saved, many, tally):
    faults = tally("a bit of a checkpoint flipped")
    generator = random.Random(0)
    noticed = 0
    for number in range(many(6, 200)):
        step = generator.choice([BEST, LATEST])
        files = files_of(step_of(workdir, step))
        # Half of them in files as they come, most of which are small.
        path = by_size(generator, files) if number % 2 else generator.choice(files)
        faults.injected()
        noticed += assert_survived(
            workdir, step, path, lambda p: flip(p, generator), saved
        )
        faults.survived()
    assert noticed > many(6, 200) / 3


@pytest.mark.slow
def test_the_real_commands(tiny, finished, tmp_path, many, tally, caplog):
    faults = tally("a damaged checkpoint met by the real commands")
    generator = random.Random(2)
    cases = [
        (LATEST, lambda path: flip(path, generator)),
        *product((LATEST, BEST), DAMAGES.values()),
    ]
    for number, (step, damage) in enumerate(cases[: many(1, 7)]):
        workdir = shutil.copytree(finished, tmp_path / str(number))
        damage(by_size(generator, files_of(step_of(workdir, step) / "model")))
        faults.injected()
        evaluate = {"module": "evaluate"}
        result = run_here(tiny, workdir, "--checkpoint", str(step), **evaluate)
        assert_one_line(result, f"checkpoints/{step}' is damaged: use another step")
        which = "latest" if step == LATEST else "best"
        result = run_here(tiny, workdir, "--checkpoint", which, **evaluate)
        assert result.returncode == 0, result.stderr
        assert f"ignoring the damaged checkpoint '{step_of(workdir, step)}'" in (
            caplog.text
        )
        report = json.loads((workdir / "evaluation-test.json").read_text())
        assert report["step"] == BEST + LATEST - step
        result = run_here(tiny, workdir)
        assert result.returncode == 0, result.stderr
        assert f"set aside as damaged-{step}" in result.stdout
        assert_same_run(workdir, finished)
        faults.survived()
