"""A run directory that is taken, left behind, moved, read-only or elsewhere."""

import os
import shutil
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
    run_here,
)

from jax_resnet.checkpoint import store
from jax_resnet.predict import Predictor
from jax_resnet.runtime.lock import workdir_lock

# Every two seconds it is yesterday.
BACKWARDS = """
import time

real, begun = time.time, time.monotonic()

def jumped():
    return real() - 86400 * int((time.monotonic() - begun) / 2)

time.time = jumped
time.time_ns = lambda: int(1e9 * jumped())
"""


@pytest.mark.fault("a second run in the same workdir", 1, 1)
def test_two_runs_in_one_workdir(tiny, tmp_path):
    holder = rf"in use by process {os.getpid()} on {socket.gethostname()}"
    with workdir_lock(tmp_path):
        assert_one_line(run_here(tiny, tmp_path), holder)


@pytest.mark.slow
@pytest.mark.fault("a run killed and moved, then resumed", 1, 1)
def test_moved_with_the_lock_of_a_dead_process(tiny, finished, stopped, tmp_path):
    moved = shutil.copytree(stopped, tmp_path / "moved, é")
    (moved / ".lock").write_text(f"process {os.getpid()} on {socket.gethostname()}\n")
    result = run_here(tiny, moved)
    assert result.returncode == 0, result.stderr
    assert "resuming at step" in result.stdout
    assert_same_run(moved, finished)


@pytest.mark.slow
@pytest.mark.fault("a clock that jumps a day backwards every two seconds", 0, 1)
def test_a_clock_that_jumps_backwards(tiny, finished, tmp_path, number):
    (tmp_path / "sitecustomize.py").write_text(BACKWARDS)
    path = tiny.environment["PYTHONPATH"] + os.pathsep + str(tmp_path)
    jumping = tiny._replace(environment={**tiny.environment, "PYTHONPATH": path})
    workdir = interrupted(jumping, tmp_path / "run")
    result = run(jumping, workdir)
    assert result.returncode == 0, result.stderr
    assert_same_run(workdir, finished)


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
    images = np.zeros((2, 32, 32, 3), np.uint8)
    predicted = [Predictor.open(w).predict(images) for w in (read_only, finished)]
    np.testing.assert_array_equal(*predicted)
    assert_one_line(run_here(tiny, read_only), "cannot write to workdir")


@pytest.mark.fault("a checkpoint restored where the device is another", 1, 1)
def test_nothing_of_the_device_is_in_a_checkpoint(finished):
    # Arrays are saved from host memory, without a sharding.
    for name in store.TREES:
        folder = store.select(finished, "latest").path / name
        sharding = [path for path in folder.rglob("*") if "sharding" in path.name]
        assert all(path.read_bytes() in (b"", b"{}") for path in sharding)
        assert b"cpu" not in (folder / "_METADATA").read_bytes().lower()


@pytest.mark.skipif(
    "OTHER_PYTHON" not in os.environ,
    reason="OTHER_PYTHON names no interpreter with other versions",
)
@pytest.mark.fault("a run resumed with other versions of Python and JAX", 1, 1)
def test_other_versions(tiny, finished, stopped, tmp_path):
    workdir = shutil.copytree(stopped, tmp_path / "run")
    for module in ("train", "evaluate"):
        words = command(tiny, workdir, module=module)
        words[0] = os.environ["OTHER_PYTHON"]
        subprocess.run(words, env=tiny.environment, check=True)
    found = final_arrays(workdir)
    for name, expected in final_arrays(finished).items():
        np.testing.assert_allclose(found[name], expected, rtol=1e-2, atol=1e-2)
