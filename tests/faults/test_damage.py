"""Damaged checkpoints never load, and a run goes on without them."""

import json
import shutil

import pytest
from command_line import assert_same_run, run_here
from damages import damage, files_in

from jax_resnet.checkpoint import store
from jax_resnet.checkpoint.store import Checkpoint, DamagedCheckpointError

BEST, LATEST = 16, 24  # the steps that the finished run keeps


@pytest.mark.slow
@pytest.mark.fault("a damaged file of a checkpoint", 5, 120)
def test_a_damaged_file(finished, tmp_path, number, generator):
    step = generator.choice([BEST, LATEST])
    pristine = store.directory(finished) / str(step)
    copy = shutil.copytree(pristine, tmp_path / str(step))
    damage(generator.choice(files_in(copy)), number, generator)
    try:
        checkpoint = Checkpoint.open(copy)
        checkpoint.verify()
    except DamagedCheckpointError:
        return
    # Orbax does not read everything that it writes.
    assert checkpoint.metadata == Checkpoint.open(pristine).metadata


@pytest.mark.slow
@pytest.mark.fault("a damaged checkpoint of a run", 0, 5)
def test_commands_go_on_without_it(tiny, finished, tmp_path, generator, number, caplog):
    workdir = shutil.copytree(finished, tmp_path / "run")
    step, which = [(BEST, "best"), (LATEST, "latest")][number % 2]
    folder = store.directory(workdir) / str(step)
    largest = max(files_in(folder / "model"), key=lambda path: path.stat().st_size)
    damage(largest, number // 2, generator)

    options = ("--checkpoint", which, "--split", "test[:100]")
    result = run_here(tiny, workdir, *options, module="evaluate")
    assert result.returncode == 0, result.stderr
    assert f"ignoring the damaged checkpoint '{folder}'" in caplog.text
    report = json.loads((workdir / "evaluation-test__100.json").read_text())
    assert report["step"] == BEST + LATEST - step
    result = run_here(tiny, workdir)
    assert f"set aside as damaged-{step}" in result.stdout, result.stderr
    assert_same_run(workdir, finished)
