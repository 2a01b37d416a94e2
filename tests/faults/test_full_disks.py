"""A full disk stops a run with one line; with room again, it goes on from there."""

import contextlib
import re
import shutil
import subprocess
import time

import pytest
from command_line import (
    assert_carries_on,
    assert_one_line,
    assert_same_run,
    run,
    run_here,
    start,
    wait_for,
)

from jax_resnet.checkpoint import store

NO_SPACE = "(?i)no space left on"
LOST_CACHE = "no cache |warning: |Could not save font_manager cache"


@pytest.fixture
def disk(tmp_path):
    """The folder of a disk of 12 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", folder]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no small disk can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def fill(disk, leaving):
    """Leaves so many bytes free, or fewer where a run is writing."""
    size = max(shutil.disk_usage(disk).free - leaving, 0)
    with contextlib.suppress(OSError):
        (disk / "filler").write_bytes(bytes(size))


@pytest.mark.slow
@pytest.mark.fault("a disk without space for the run", 1, 6)
def test_a_disk_with_little_space(tiny, finished, disk, generator):
    # Enough for anything from no file at all to all but the last checkpoint.
    fill(disk, leaving=int(10 ** generator.uniform(3, 6.47)))
    assert_one_line(run_here(tiny, disk / "run"), NO_SPACE)
    (disk / "filler").unlink()
    assert_carries_on(tiny, disk / "run", finished)


@pytest.mark.slow
@pytest.mark.fault("a disk that fills up during a run", 0, 6)
def test_a_disk_that_fills_up(tiny, finished, disk, number, generator):
    process = start(tiny, disk / "run")
    if number % 2:  # during a save
        unfinished = f"{generator.choice([8, 16])}.orbax-checkpoint-tmp"
        while not (store.directory(disk / "run") / unfinished).exists():
            assert process.poll() is None
            time.sleep(0.0005)
        time.sleep(generator.uniform(0, 0.02))
    else:  # before a line of the log
        wait_for(process, f"epoch {generator.randint(1, 3)}/3")
    fill(disk, leaving=generator.randrange(600_000) if number % 2 else 0)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 2
    assert re.search(NO_SPACE, output)
    (disk / "filler").unlink()
    assert_carries_on(tiny, disk / "run", finished)


@pytest.mark.slow
@pytest.mark.parametrize("variable", ["JAX_RESNET_CACHE", "JAX_COMPILATION_CACHE_DIR"])
@pytest.mark.fault("a full disk of a cache", 0, 4)
def test_a_full_cache_costs_time_only(
    tiny, finished, disk, tmp_path, monkeypatch, generator, variable
):
    monkeypatch.setenv(variable, str(disk / "cache"))
    fill(disk, leaving=generator.randrange(200_000))
    result = run(tiny, tmp_path / "run")
    assert result.returncode == 0, result.stderr
    assert all(re.match(LOST_CACHE, line) for line in result.stderr.splitlines())
    assert_same_run(tmp_path / "run", finished)
