"""After ``kill -9``, the same command carries on to the same result."""

import time

import pytest
from command_line import assert_carries_on, start

from jax_resnet.checkpoint import store


def names_in(folder):
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def saves(workdir):
    return names_in(store.directory(workdir))


def reports(workdir):
    log = workdir / "log.md"
    return log.stat().st_mtime_ns if log.exists() else 0


@pytest.mark.slow
@pytest.mark.fault("kill -9 during a save, during a report or at any time", 1, 24)
def test_a_killed_run_carries_on(tiny, finished, tmp_path, number, generator):
    workdir = tmp_path / "run"
    # One step a call makes the run long enough to be killed in each of its parts.
    process = start(tiny, workdir, "--config.train.steps_per_call=1")
    if number % 3 == 2:
        time.sleep(generator.uniform(0, 15))
    else:
        observe = (saves, reports)[number % 3]
        for _ in range(generator.randint(1, 4)):
            before = observe(workdir)
            while process.poll() is None and observe(workdir) == before:
                time.sleep(0.0005)
        time.sleep(generator.uniform(0, 0.02))
    process.kill()
    process.communicate()
    assert_carries_on(tiny, workdir, finished)
    assert names_in(workdir) == names_in(finished)
    # A run killed after its last save has one step more than it would have kept.
    assert saves(workdir) >= saves(finished)
    assert all(name.isdigit() for name in saves(workdir))
