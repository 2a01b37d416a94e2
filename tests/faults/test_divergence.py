"""Losses that are not finite, configs that change, batches that are too large."""

import json
import re
import shutil
import subprocess

import pytest
from command_line import assert_one_line, assert_same_run, command, run

from jax_resnet.checkpoint import store

EXPLODE = "--config.optimizer.learning_rate=1e30"


def summary(workdir):
    return json.loads((workdir / "summary.json").read_text())


@pytest.mark.slow
def test_divergence_keeps_the_last_finite_best(
    tiny,
    finished,
    stopped,
    tmp_path,
    tally,
):
    count = tally("a loss that explodes in a run that was fine")
    workdir = shutil.copytree(stopped, tmp_path / "run")
    best = store.select(workdir, "best")
    count.injected()
    result = run(tiny, workdir, EXPLODE, "--accept-changes")
    assert_one_line(result, r"not finite at step \d+: try a lower")
    assert summary(workdir)["complete"] is False
    assert store.select(workdir, "best") == best
    best.arrays("model")
    # The run as it was is still there.
    result = run(tiny, workdir)
    assert result.returncode == 0, result.stderr
    assert_same_run(workdir, finished)
    count.survived()


@pytest.mark.many
def test_skipping_has_a_limit(tiny, tmp_path, tally):
    count = tally("more steps that are not finite than may be skipped")
    count.injected()
    skip = "--config.train.max_skipped_steps=3"
    result = run(tiny, tmp_path / "run", EXPLODE, skip)
    assert_one_line(result, r"more than train\.max_skipped_steps: try a lower")
    assert summary(tmp_path / "run")["complete"] is False
    count.survived()


@pytest.mark.slow
def test_changes_are_refused_or_recorded(
    tiny,
    stopped,
    tmp_path,
    tally,
    many,
):
    count = tally("a config edited between starts")
    workdir = shutil.copytree(stopped, tmp_path / "run")
    before = store.select(workdir, "latest")
    lower = "--config.optimizer.learning_rate=0.01"
    refused = [
        ([lower], "learning_rate was 0.1 and is 0.01; .*--accept-changes"),
        (["--config.seed=7", lower, "--accept-changes"], "seed was 0 and is 7"),
        (["--config.seed=7"], "seed was 0 and is 7; .*leave it alone$"),
        (["--config.train.batch_size=16", "--accept-changes"], "batch_size was 32"),
        (["--config.model.depth=14", "--accept-changes"], "depth was 8 and is 14"),
    ]
    for arguments, message in refused[: many(2, 5)]:
        count.injected()
        assert_one_line(run(tiny, workdir, *arguments), message)
        assert store.select(workdir, "latest") == before
        count.survived()

    count.injected()
    longer = "--config.train.epochs=4"
    result = run(tiny, workdir, lower, longer, "--accept-changes")
    assert result.returncode == 0, result.stderr
    assert summary(workdir)["epochs_done"] == 4
    log = (workdir / "log.md").read_text()
    changed = re.search(r"^\| changed \| (.*) \|$", log, re.M)
    assert re.fullmatch(
        r"from step \d+ on optimizer\.learning_rate was 0\.1 and is 0\.01; "
        r"from step \d+ on train\.epochs was 3 and is 4",
        changed.group(1),
    )
    # What was accepted once is the run's config from then on.
    assert "is complete" in run(tiny, workdir, lower, longer).stdout
    count.survived()


@pytest.mark.many
def test_a_batch_too_large_for_the_memory(tiny, tmp_path, tally):
    count = tally("a batch too large for the memory")
    settings = ["--config.data.train_split=train", "--config.train.epochs=1"]

    def limited(workdir, batch_size):
        batch = f"--config.train.batch_size={batch_size}"
        line = command(tiny, workdir, *settings, batch)
        # The limit is on virtual memory, of which libraries and threads take a lot.
        return subprocess.run(
            ["bash", "-c", 'ulimit -v 4194304; exec "$0" "$@"', *line],
            env=tiny[1],
            capture_output=True,
            text=True,
            timeout=240,
        )

    count.injected()
    refused = limited(tmp_path / "run", 4096)
    assert_one_line(refused, r"out of memory: use a smaller batch or model")
    accepted = limited(tmp_path / "other", 64)
    assert accepted.returncode == 0, accepted.stderr
    count.survived()
