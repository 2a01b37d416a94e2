"""Losses that are not finite, configs that change, batches that are too large."""

import json
import re
import shutil
import subprocess

import pytest
from command_line import assert_one_line, command, run_here

from jax_resnet.checkpoint import store

EXPLODE = "--config.optimizer.learning_rate=1e30"
LOWER = "--config.optimizer.learning_rate=0.01"


def summary(workdir):
    return json.loads((workdir / "summary.json").read_text())


@pytest.mark.slow
@pytest.mark.fault("a loss that explodes", 1, 1)
def test_divergence_keeps_the_last_finite_checkpoints(tiny, stopped, tmp_path):
    workdir = shutil.copytree(stopped, tmp_path / "run")
    before = [store.select(workdir, which) for which in ("best", "latest")]
    result = run_here(tiny, workdir, EXPLODE, "--accept-changes")
    assert_one_line(result, r"not finite at step \d+: try a lower")
    assert summary(workdir)["complete"] is False
    assert [store.select(workdir, which) for which in ("best", "latest")] == before


@pytest.mark.slow
@pytest.mark.fault("a config edited between starts", 1, 1)
def test_changes_are_refused_or_recorded(tiny, stopped, tmp_path):
    workdir = shutil.copytree(stopped, tmp_path / "run")
    result = run_here(tiny, workdir, LOWER)
    assert_one_line(result, "learning_rate was 0.1 and is 0.01; .*--accept-changes")
    result = run_here(tiny, workdir, "--config.seed=7", "--accept-changes")
    assert_one_line(result, "seed was 0 and is 7")
    changes = (LOWER, "--config.train.epochs=2", "--accept-changes")
    result = run_here(tiny, workdir, *changes)
    assert result.returncode == 0, result.stderr
    assert summary(workdir)["epochs_done"] == 2
    log = (workdir / "log.md").read_text()
    assert re.search(r"^\| changed \|.*learning_rate was 0.1 and is 0.01; ", log, re.M)


@pytest.mark.ci
@pytest.mark.fault("a batch too large for the memory", 1, 1)
def test_a_batch_too_large_for_the_memory(tiny, tmp_path):
    settings = ("--config.data.train_split=train", "--config.train.batch_size=4096")
    # The limit is on virtual memory, of which libraries and threads take a lot.
    limited = ["bash", "-c", 'ulimit -v 4194304; exec "$0" "$@"']
    words = [*limited, *command(tiny, tmp_path / "run", *settings)]
    result = subprocess.run(words, capture_output=True, text=True, timeout=240)
    assert_one_line(result, "out of memory: use a smaller batch or model")
