"""Damaged checkpoints never load, and a run goes on without them."""

import json
import shutil

import pytest
from command_line import assert_one_line, assert_same_run, run_here, set_aside_damaged
from damages import DAMAGES, files_in

from jax_resnet.checkpoint import store
from jax_resnet.checkpoint.store import Checkpoint, DamagedCheckpointError

BEST, LATEST = 16, 24  # the steps that the finished run keeps


@pytest.fixture(scope="module")
def digests(finished):
    """The digests of everything in each step of the finished run."""
    root = store.directory(finished)
    steps = [Checkpoint.open(root / str(step)) for step in (BEST, LATEST)]
    return {checkpoint.step: checkpoint.metadata["digests"] for checkpoint in steps}


@pytest.mark.parametrize("kind", DAMAGES)
@pytest.mark.fault("a file of a checkpoint {kind}", 6, 100)
def test_a_damaged_file(finished, digests, tmp_path, generator, kind):
    workdir = shutil.copytree(finished, tmp_path / "run")
    step = generator.choice([BEST, LATEST])
    folder = store.directory(workdir) / str(step)
    DAMAGES[kind](generator.choice(files_in(folder)), generator)
    try:
        # Orbax does not read everything that it writes. What loads is what was saved,
        # because loading checks the digests.
        checkpoint = Checkpoint.open(folder)
        checkpoint.verify()
    except DamagedCheckpointError:
        notes = set_aside_damaged(workdir)
        assert f"set aside as damaged-{step}" in notes[0]
        checkpoint = store.select(workdir, "latest")
        assert checkpoint.step == BEST + LATEST - step
    assert checkpoint.metadata["digests"] == digests[checkpoint.step]


@pytest.mark.slow
@pytest.mark.fault("a damaged checkpoint met by the commands", 1, 8)
def test_the_commands(tiny, finished, tmp_path, generator, number, caplog):
    workdir = shutil.copytree(finished, tmp_path / "run")
    step, which = [(BEST, "best"), (LATEST, "latest")][number % 2]
    folder = store.directory(workdir) / str(step)
    largest = max(files_in(folder / "model"), key=lambda path: path.stat().st_size)
    [*DAMAGES.values()][number // 2](largest, generator)

    def evaluate(checkpoint):
        options = ("--checkpoint", checkpoint, "--split", "test[:100]")
        return run_here(tiny, workdir, *options, module="evaluate")

    message = f"checkpoints/{step}' is damaged: use another step"
    assert_one_line(evaluate(str(step)), message)
    result = evaluate(which)
    assert result.returncode == 0, result.stderr
    assert f"ignoring the damaged checkpoint '{folder}'" in caplog.text
    report = json.loads((workdir / "evaluation-test__100.json").read_text())
    assert report["step"] == BEST + LATEST - step
    result = run_here(tiny, workdir)
    assert result.returncode == 0, result.stderr
    assert f"set aside as damaged-{step}" in result.stdout
    assert_same_run(workdir, finished)
