"""Losses that are not finite, configs that change, batches that are too large."""

import json
import re
import shutil
import subprocess

import pytest
from command_line import assert_one_line, assert_same_run, command, run, run_here

from jax_resnet.checkpoint import store

EXPLODE = "--config.optimizer.learning_rate=1e30"


def summary(workdir):
    return json.loads((workdir / "summary.json").read_text())


@pytest.mark.slow
@pytest.mark.fault("a loss that explodes", 1, 1)
def test_divergence_keeps_the_last_finite_best(tiny, finished, stopped, tmp_path):
    workdir = shutil.copytree(stopped, tmp_path / "run")
    best = store.select(workdir, "best")
    result = run_here(tiny, workdir, EXPLODE, "--accept-changes")
    assert_one_line(result, r"not finite at step \d+: try a lower")
    assert summary(workdir)["complete"] is False
    assert store.select(workdir, "best") == best
    # Without the change, the run goes on from where it was.
    result = run_here(tiny, workdir)
    assert result.returncode == 0, result.stderr
    assert_same_run(workdir, finished)


@pytest.mark.many
@pytest.mark.fault("more steps that are not finite than may be skipped", 1, 1)
def test_skipping_has_a_limit(tiny, tmp_path):
    skip = "--config.train.max_skipped_steps=3"
    result = run_here(tiny, tmp_path / "run", EXPLODE, skip)
    assert_one_line(result, r"more than train\.max_skipped_steps: try a lower")
    assert summary(tmp_path / "run")["complete"] is False


LOWER = "--config.optimizer.learning_rate=0.01"


@pytest.mark.slow  # for the run that it takes
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([LOWER], "learning_rate was 0.1 and is 0.01; .*--accept-changes"),
        (["--config.seed=7", LOWER, "--accept-changes"], "seed was 0 and is 7"),
        (["--config.seed=7"], "seed was 0 and is 7; .*leave it alone$"),
        (["--config.model.depth=14", "--accept-changes"], "depth was 8 and is 14"),
    ],
)
@pytest.mark.fault("a config edited between starts", 1, 1)
def test_changes_are_refused(tiny, stopped, arguments, message):
    before = store.select(stopped, "latest")
    assert_one_line(run_here(tiny, stopped, *arguments), message)
    assert store.select(stopped, "latest") == before


@pytest.mark.slow
@pytest.mark.fault("a config edited between starts", 1, 1)
def test_accepted_changes_are_recorded(tiny, stopped, tmp_path):
    workdir = shutil.copytree(stopped, tmp_path / "run")
    changes = (LOWER, "--config.train.epochs=4")
    result = run_here(tiny, workdir, *changes, "--accept-changes")
    assert result.returncode == 0, result.stderr
    assert summary(workdir)["epochs_done"] == 4
    log = (workdir / "log.md").read_text()
    changed = re.search(r"^\| changed \| (.*) \|$", log, re.M)
    assert re.fullmatch(
        r"from step \d+ on optimizer\.learning_rate was 0\.1 and is 0\.01; "
        r"from step \d+ on train\.epochs was 3 and is 4",
        changed.group(1),
    )
    # From then on, that is the run's config.
    assert "is complete" in run_here(tiny, workdir, *changes).stdout


@pytest.mark.many
@pytest.mark.fault("a batch too large for the memory", 1, 1)
def test_a_batch_too_large_for_the_memory(tiny, tmp_path):
    settings = ["--config.data.train_split=train", "--config.train.batch_size=4096"]
    # The limit is on virtual memory, of which libraries and threads take a lot.
    limited = ["bash", "-c", 'ulimit -v 4194304; exec "$0" "$@"']
    words = [*limited, *command(tiny, tmp_path / "run", *settings)]
    options = {"capture_output": True, "text": True, "timeout": 240}
    result = subprocess.run(words, env=tiny.environment, **options)
    assert_one_line(result, "out of memory: use a smaller batch or model")
    assert run(tiny, tmp_path / "run").returncode == 0
