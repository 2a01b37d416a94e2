"""A full disk stops a run with one line; with room again, it goes on from there."""

import contextlib
import re
import shutil
import subprocess
import time

import pytest
from command_line import (
    assert_checkpoints_sound,
    assert_one_line,
    assert_same_run,
    run,
    run_here,
    start,
    wait_for,
)

from jax_resnet.checkpoint import store

NO_ROOM = "(?i)no space left on"
LOST_CACHE = "no cache |warning: |Could not save font_manager cache"


class Disk:
    """A small disk of its own, and the file that fills it."""

    def __init__(self, folder):
        self.folder = folder
        self._filler = folder / "filler"

    def fill(self, leaving):
        """Leaves so many bytes free, or fewer where a run is writing."""
        size = max(shutil.disk_usage(self.folder).free - leaving, 0)
        with (
            contextlib.suppress(OSError),
            self._filler.open("wb", buffering=0) as file,
        ):
            file.write(bytes(size))

    def make_room(self):
        self._filler.unlink()


@pytest.fixture
def disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no small disk can be mounted here")
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def assert_goes_on(tiny, finished, disk, workdir):
    assert_checkpoints_sound(workdir)
    disk.make_room()
    result = run_here(tiny, workdir)
    assert (result.returncode, result.stderr) == (0, "")
    assert_same_run(workdir, finished)


@pytest.mark.slow
@pytest.mark.fault("a disk without room for the run", 1, 12)
def test_a_disk_with_little_room(tiny, finished, disk, generator):
    # Enough for anything from no file at all to all but the last checkpoint.
    disk.fill(leaving=int(10 ** generator.uniform(3, 6.47)))
    assert_one_line(run_here(tiny, disk.folder / "run"), NO_ROOM)
    assert_goes_on(tiny, finished, disk, disk.folder / "run")


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["during a save", "before a line of the log"])
@pytest.mark.fault("a disk that fills up {moment}", 0, 6)
def test_a_disk_that_fills_up(tiny, finished, disk, generator, moment):
    workdir = disk.folder / "run"
    process = start(tiny, workdir)
    if moment == "during a save":
        unfinished = f"{generator.choice([8, 16])}.orbax-checkpoint-tmp"
        while not (store.directory(workdir) / unfinished).exists():
            assert process.poll() is None
            time.sleep(0.0005)
        time.sleep(generator.uniform(0, 0.02))
        disk.fill(leaving=generator.randrange(600_000))
    else:
        wait_for(process, f"epoch {generator.randint(1, 3)}/3")
        disk.fill(leaving=0)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 2
    assert re.search(f"error: .*{NO_ROOM[4:]}", output, re.I)
    assert_goes_on(tiny, finished, disk, workdir)


@pytest.mark.slow
@pytest.mark.parametrize("variable", ["JAX_RESNET_CACHE", "JAX_COMPILATION_CACHE_DIR"])
@pytest.mark.fault("a full disk of {variable}", 0, 4)
def test_a_full_cache_costs_time_only(tiny, finished, disk, generator, variable):
    cache = str(disk.folder / "cache")
    cached = tiny._replace(environment={**tiny.environment, variable: cache})
    disk.fill(leaving=generator.randrange(200_000))
    for name in ("first", "second"):
        workdir = disk.folder.parent / name
        result = run(cached, workdir)
        assert result.returncode == 0, result.stderr
        assert all(re.match(LOST_CACHE, line) for line in result.stderr.splitlines())
        assert_same_run(workdir, finished)
        if name == "first":
            disk.make_room()  # what is half written there is no use to the second
