"""A run directory that is taken, left behind, moved, copied, read-only or elsewhere."""

import os
import shutil
import signal
import socket
import subprocess

import numpy as np
import pytest
from command_line import (
    assert_one_line,
    assert_same_run,
    command,
    final_arrays,
    interrupted,
    records,
    run,
    start,
    wait_for,
)

from jax_resnet.checkpoint import store
from jax_resnet.predict import Predictor

SLOW = "--config.train.steps_per_call=1"

# Every two seconds it is yesterday.
BACKWARDS = """
import time

real, begun = time.time, time.monotonic()

def jumped():
    return real() - 86400 * int((time.monotonic() - begun) / 2)

time.time = jumped
time.time_ns = lambda: int(1e9 * jumped())
"""


def resumed(tiny, workdir, finished):
    result = run(tiny, workdir)
    assert result.returncode == 0, result.stderr
    assert "resuming at step" in result.stdout
    assert_same_run(workdir, finished)


def test_two_processes_in_one_workdir(tiny, finished, tmp_path, tally):
    count = tally("a second process in the same workdir")
    workdir = tmp_path / "run"
    first = start(tiny, workdir, SLOW)
    wait_for(first, "compiled in")
    first.send_signal(signal.SIGSTOP)  # so that it is not over before the second begins
    count.injected()
    refused = run(tiny, workdir)
    first.send_signal(signal.SIGCONT)
    assert_one_line(
        refused, rf"in use by process {first.pid} on {socket.gethostname()}"
    )
    first.communicate(timeout=60)
    assert_same_run(workdir, finished)
    count.survived()


def test_moved_with_the_lock_of_a_dead_process(
    tiny, finished, stopped, tmp_path, tally
):
    counts = (
        tally("the lock file of a dead process"),
        tally("a run moved, then resumed"),
    )
    copied = shutil.copytree(stopped, tmp_path / "before")
    (copied / ".lock").write_text(f"process {os.getpid()} on {socket.gethostname()}\n")
    moved = copied.rename(tmp_path / "after it was moved, é")
    for count in counts:
        count.injected()
    resumed(tiny, moved, finished)
    for count in counts:
        count.survived()


@pytest.mark.many
def test_a_copy_leaves_the_original_alone(tiny, finished, stopped, tmp_path, tally):
    count = tally("a run copied, and both resumed")
    one = shutil.copytree(stopped, tmp_path / "one")
    other = shutil.copytree(stopped, tmp_path / "other")
    count.injected()
    resumed(tiny, one, finished)
    resumed(tiny, other, finished)
    count.survived()


@pytest.mark.many
def test_a_clock_that_jumps_backwards(tiny, finished, tmp_path, tally):
    count = tally("a clock that jumps a day backwards every two seconds")
    (tmp_path / "sitecustomize.py").write_text(BACKWARDS)
    environment = dict(tiny[1])
    environment["PYTHONPATH"] += os.pathsep + str(tmp_path)
    workdir = tmp_path / "run"
    count.injected()
    interrupted(tiny._replace(environment=environment), workdir)
    resumed(tiny._replace(environment=environment), workdir, finished)
    count.survived()


@pytest.fixture
def read_only(finished, tmp_path):
    """A copy of the run that nobody can write to, root included."""
    copy = shutil.copytree(finished, tmp_path / "copy")
    if os.getuid() != 0:
        for path in [copy, *copy.rglob("*")]:
            path.chmod(0o555 if path.is_dir() else 0o444)
        yield copy
        for path in [copy, *copy.rglob("*")]:
            path.chmod(0o755)
        return
    mounted = subprocess.run(["mount", "--bind", copy, copy]).returncode == 0
    if not mounted:
        pytest.skip("root cannot mount here, and may write to everything else")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", copy], check=True)
        yield copy
    finally:
        subprocess.run(["umount", copy], check=True)


def test_a_read_only_copy(tiny, finished, read_only, tally):
    count = tally("a read-only copy evaluated and restored for serving")
    count.injected()
    split = ("--split", "test[:100]")
    result = run(tiny, read_only, *split, module="evaluate")
    assert result.returncode == 0, result.stderr
    assert "not written" in result.stdout
    best = max(record["val_top1"] for record in records(finished))
    assert f"{100 * best:.2f} %" in result.stdout
    images = np.zeros((2, 32, 32, 3), np.uint8)
    predicted = [Predictor.open(w).predict(images) for w in (read_only, finished)]
    np.testing.assert_array_equal(*predicted)
    assert_one_line(run(tiny, read_only), "cannot write to workdir")
    count.survived()


def test_nothing_of_the_device_is_in_a_checkpoint(finished, tally):
    count = tally("a checkpoint restored where the device is another")
    # What the device would be needed for is not there: arrays are saved from host
    # memory, without a sharding.
    count.injected()
    for name in store.TREES:
        folder = store.select(finished, "latest").path / name
        sharding = [p for p in folder.rglob("*") if "sharding" in p.name]
        assert all(p.read_bytes() in (b"", b"{}") for p in sharding)
        assert b"cpu" not in (folder / "_METADATA").read_bytes().lower()
    count.survived()


@pytest.mark.skipif(
    "OTHER_PYTHON" not in os.environ,
    reason="OTHER_PYTHON names no interpreter with other versions",
)
def test_other_versions(tiny, finished, stopped, tmp_path, tally):
    count = tally("a run resumed and evaluated with other versions of Python and JAX")
    workdir = shutil.copytree(stopped, tmp_path / "run")
    count.injected()
    for module in ("train", "evaluate"):
        words = command(tiny, workdir, module=module)
        words[0] = os.environ["OTHER_PYTHON"]
        done = subprocess.run(words, env=tiny[1], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    for name, expected in final_arrays(finished).items():
        found = final_arrays(workdir)[name]
        np.testing.assert_allclose(found, expected, rtol=1e-2, atol=1e-2)
    count.survived()
