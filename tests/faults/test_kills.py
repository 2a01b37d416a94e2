"""After ``kill -9``, the same command carries on to the same result."""

import time

import pytest
from command_line import (
    assert_checkpoints_sound,
    assert_same_run,
    run_here,
    start,
    wait_for,
)

from jax_resnet.checkpoint import store

# One step a call makes the run long enough to be cut in all its parts.
STEP_BY_STEP = "--config.train.steps_per_call=1"


def names_in(folder):
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def wait_until(process, happened):
    while process.poll() is None and not happened():
        time.sleep(0.0005)


def anywhere(process, workdir, generator):
    time.sleep(generator.uniform(0, 15))


def compiling(process, workdir, generator):
    wait_for(process, "training on")
    time.sleep(generator.uniform(0, 4))


def saving(process, workdir, generator):
    folder = store.directory(workdir)
    for _ in range(generator.randint(1, 3)):
        stale = names_in(folder)
        wait_until(process, lambda stale=stale: "tmp" in str(names_in(folder) - stale))
    time.sleep(generator.uniform(0, 0.02))


def reporting(process, workdir, generator):
    log = workdir / "log.md"

    def modified():
        return log.stat().st_mtime_ns if log.exists() else 0

    for _ in range(generator.randint(1, 3)):
        before = modified()
        wait_until(process, lambda before=before: modified() != before)
    time.sleep(generator.uniform(0, 0.005))


def kill_and_carry_on(kill, tiny, finished, workdir, generator):
    process = start(tiny, workdir, STEP_BY_STEP)
    kill(process, workdir, generator)
    process.kill()
    process.communicate()
    assert_checkpoints_sound(workdir)
    result = run_here(tiny, workdir)
    assert result.returncode == 0, result.stderr
    assert_same_run(workdir, finished)
    assert names_in(workdir) == names_in(finished)
    # A run killed after its last save has one step more than it would have kept.
    steps = names_in(store.directory(workdir))
    assert steps >= names_in(store.directory(finished))
    assert all(name.isdigit() for name in steps)


@pytest.mark.slow
@pytest.mark.fault("kill -9 during a save", 1, 12)
def test_killed_while_saving(tiny, finished, tmp_path, generator):
    kill_and_carry_on(saving, tiny, finished, tmp_path / "run", generator)


@pytest.mark.slow
@pytest.mark.parametrize("moment", [anywhere, compiling, reporting])
@pytest.mark.fault("kill -9, {moment.__name__}", 0, 12)
def test_killed_at_other_times(tiny, finished, tmp_path, generator, moment):
    cache = str(tmp_path / "cache")
    if moment is compiling:
        environment = {**tiny.environment, "JAX_RESNET_CACHE": cache}
        tiny = tiny._replace(environment=environment)
    kill_and_carry_on(moment, tiny, finished, tmp_path / "run", generator)
