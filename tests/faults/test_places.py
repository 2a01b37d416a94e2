"""A run directory that is taken, left behind, moved, read-only or elsewhere."""

import os
import shutil
import socket
import subprocess
import time

import pytest
from command_line import (
    assert_carries_on,
    assert_one_line,
    records,
    run_here,
)

from jax_resnet.predictor import Predictor
from jax_resnet.runtime.lock import workdir_lock


@pytest.mark.fault("a second run in the same workdir", 1, 1)
def test_two_runs_in_one_workdir(tiny, tmp_path):
    holder = rf"in use by process {os.getpid()} on {socket.gethostname()}"
    with workdir_lock(tmp_path):
        assert_one_line(run_here(tiny, tmp_path), holder)


@pytest.mark.slow
@pytest.mark.fault("a run stopped by SIGTERM, moved, with a dead process's lock", 1, 1)
def test_moved_with_the_lock_of_a_dead_process(tiny, finished, stopped, tmp_path):
    moved = shutil.copytree(stopped, tmp_path / "moved, é [1]*\\")
    (moved / ".lock").write_text(f"process {os.getpid()} on {socket.gethostname()}\n")
    assert "resuming at step" in assert_carries_on(tiny, moved, finished)


@pytest.mark.ci
@pytest.mark.fault("a clock that jumps a day backwards every two seconds", 1, 1)
def test_a_clock_that_jumps_backwards(tiny, finished, tmp_path, monkeypatch):
    real, begun = time.time, time.monotonic()

    def jumping():
        return real() - 86400 * int((time.monotonic() - begun) / 2)

    monkeypatch.setattr(time, "time", jumping)
    assert_carries_on(tiny, tmp_path / "run", finished)


@pytest.fixture
def read_only(finished, tmp_path):
    """A copy of the run that nobody can write to, root included."""
    copy = shutil.copytree(finished, tmp_path / "copy")
    if os.getuid() != 0:
        subprocess.run(["chmod", "-R", "a-w", copy], check=True)
        yield copy
        subprocess.run(["chmod", "-R", "u+w", copy], check=True)
        return
    if subprocess.run(["mount", "--bind", copy, copy]).returncode:
        pytest.skip("root cannot mount here, and may write to everything else")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", copy], check=True)
        yield copy
    finally:
        subprocess.run(["umount", copy], check=True)


@pytest.mark.slow
@pytest.mark.fault("a read-only copy evaluated and opened for serving", 1, 1)
def test_a_read_only_copy(tiny, finished, read_only):
    result = run_here(tiny, read_only, "--split=test[:100]", module="evaluate")
    assert result.returncode == 0, result.stderr
    assert "not written" in result.stdout
    best = max(record["val_top1"] for record in records(finished))
    assert f"{100 * best:.2f} %" in result.stdout
    assert Predictor.open(read_only).info == Predictor.open(finished).info
    assert_one_line(run_here(tiny, read_only), "cannot write to workdir")
