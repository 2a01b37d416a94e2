"""A disk that runs full: one line, nothing lost, and on it goes when there is room."""

import contextlib
import random
import re
import shutil
import subprocess
import time

import pytest
from command_line import (
    assert_checkpoints_sound,
    assert_one_line,
    assert_same_run,
    command,
    run,
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
    try:
        subprocess.run(mount, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        why = getattr(error, "stderr", None) or error
        pytest.skip(f"no small disk can be mounted: {why}")
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def training(tiny, workdir):
    return subprocess.Popen(
        command(tiny, workdir),
        env=tiny[1],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end_of(process):
    output, errors = process.communicate(timeout=240)
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def assert_survived(failed, disk, tiny, finished, workdir):
    assert_one_line(failed, NO_ROOM)
    assert_checkpoints_sound(workdir)
    disk.make_room()
    result = run(tiny, workdir)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert_same_run(workdir, finished)
    shutil.rmtree(workdir)


@pytest.mark.slow
def test_a_disk_with_little_room(tiny, finished, disk, many, tally):
    faults = tally("disk without room for the run")
    generator = random.Random(0)
    for _ in range(many(1, 12)):
        workdir = disk.folder / "run"
        # Enough for anything from no file at all to all but the last checkpoint.
        disk.fill(leaving=int(10 ** generator.uniform(3, 6.47)))
        faults.injected()
        assert_survived(run(tiny, workdir), disk, tiny, finished, workdir)
        faults.survived()


@pytest.mark.many
def test_a_disk_that_fills_up_during_a_save(tiny, finished, disk, many, tally):
    faults = tally("disk full during a save")
    generator = random.Random(1)
    for _ in range(many(1, 8)):
        workdir = disk.folder / "run"
        folder = store.directory(workdir)
        unfinished = f"{generator.choice([8, 16])}.orbax-checkpoint-tmp"
        process = training(tiny, workdir)
        while process.poll() is None and not (folder / unfinished).exists():
            time.sleep(0.0005)
        assert process.poll() is None, end_of(process)
        time.sleep(generator.uniform(0, 0.02))
        disk.fill(leaving=generator.randrange(600_000))
        faults.injected()
        assert_survived(end_of(process), disk, tiny, finished, workdir)
        faults.survived()


@pytest.mark.many
def test_a_disk_that_fills_up_before_a_log_line(tiny, finished, disk, many, tally):
    faults = tally("disk full when a log line is due")
    for epoch in range(1, many(1, 3) + 1):
        workdir = disk.folder / "run"
        process = training(tiny, workdir)
        wait_for(process, f"epoch {epoch}/3")
        disk.fill(leaving=0)
        faults.injected()
        assert_survived(end_of(process), disk, tiny, finished, workdir)
        faults.survived()


@pytest.mark.many
@pytest.mark.parametrize("what", ["cache", "cache of compiled programs"])
def test_a_full_cache_costs_time_only(what, tiny, finished, disk, many, tally):
    faults = tally(f"disk of the {what} full")
    generator = random.Random(2)
    for _ in range(many(1, 4)):
        cache = disk.folder / "cache"
        first, second = (disk.folder.parent / name for name in ("first", "second"))
        arguments, (config, environment) = [], tiny
        if what == "cache":
            environment = {**environment, "XDG_CACHE_HOME": str(cache)}
            environment.pop("JAX_RESNET_CACHE", None)
        else:
            arguments = [f"--config.train.compilation_cache={cache}"]
        cached = config, environment
        disk.fill(leaving=generator.randrange(200_000))
        faults.injected()
        full = run(cached, first, *arguments)
        assert full.returncode == 0, full.stderr
        assert all(re.match(LOST_CACHE, line) for line in full.stderr.splitlines())
        assert_same_run(first, finished)
        disk.make_room()
        # What was left there half written costs time again, and is named.
        again = run(cached, second, *arguments)
        assert again.returncode == 0, again.stderr
        assert all(re.match(LOST_CACHE, line) for line in again.stderr.splitlines())
        assert_same_run(second, finished)
        for folder in (cache, first, second):
            shutil.rmtree(folder)
        faults.survived()
