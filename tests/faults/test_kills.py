"""``kill -9``, again and again: the same command carries on to the same result."""

import random
import time

import pytest
from command_line import (
    assert_checkpoints_sound,
    assert_same_run,
    start,
    wait_for,
)

from jax_resnet.checkpoint import store

# One step a call makes the run long enough to be cut in all its parts.
STEP_BY_STEP = "--config.train.steps_per_call=1"


def names_in(folder):
    try:
        return {path.name for path in folder.iterdir()}
    except FileNotFoundError:
        return set()


def assert_nothing_left_behind(workdir, reference):
    assert names_in(workdir) == names_in(reference)
    found, expected = (
        names_in(store.directory(folder)) for folder in (workdir, reference)
    )
    # A run killed after its last save has one step more than it would have kept.
    assert found >= expected
    assert all(name.isdigit() for name in found)


class Moments:
    """Each method waits for its moment in the life of a process."""

    def __init__(self, seed):
        self._random = random.Random(seed)
        self.lifetime = 6.0  # seconds of a whole run; learned

    def anywhere(self, process, workdir):
        self._sleep(self.lifetime)

    def compiling(self, process, workdir):
        if "training on" in wait_for(process, "training on|is complete"):
            self._sleep(4.0)
        else:  # killed after its last epoch the time before: nothing to compile
            process.wait()

    def saving(self, process, workdir):
        folder = store.directory(workdir)
        stale = names_in(folder)
        self._until(process, lambda: any("tmp" in n for n in names_in(folder) - stale))
        self._sleep(0.02)

    def reporting(self, process, workdir):
        log = workdir / "log.md"

        def modified():
            return log.stat().st_mtime_ns if log.exists() else 0

        for _ in range(self._random.randint(1, 3)):
            before = modified()
            self._until(process, lambda before=before: modified() != before)
        self._sleep(0.005)

    def _sleep(self, longest):
        time.sleep(self._random.uniform(0, longest))

    def _until(self, process, happened):
        while process.poll() is None and not happened():
            time.sleep(0.0005)


KINDS = {
    "kill -9 at a random moment": (Moments.anywhere, 2, 36),
    "kill -9 while compiling for the first time": (Moments.compiling, 1, 16),
    "kill -9 during a save": (Moments.saving, 1, 16),
    "kill -9 while the report is written": (Moments.reporting, 1, 16),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_killed_runs_carry_on(kind, tiny, finished, tmp_path, many, tally):
    kill, few, hundreds = KINDS[kind]
    config, environment = tiny
    faults = tally(kind)
    planned, survivors = many(few, hundreds), 0
    moments = Moments(planned)
    workdir = tmp_path / "run-0"
    while planned or survivors:
        if kind == "kill -9 while compiling for the first time":
            cache = str(tmp_path / f"cache-{planned}")
            environment = {**environment, "JAX_RESNET_CACHE": cache}
        started = time.monotonic()
        process = start((config, environment), workdir, STEP_BY_STEP)
        if planned:
            kill(moments, process, workdir)
            process.kill()
        output, _ = process.communicate(timeout=240)
        assert_checkpoints_sound(workdir)
        if process.returncode < 0:
            faults.injected()
            planned, survivors = planned - 1, survivors + 1
            continue
        assert process.returncode == 0, output
        moments.lifetime = max(moments.lifetime, time.monotonic() - started)
        assert_same_run(workdir, finished)
        assert_nothing_left_behind(workdir, finished)
        faults.survived(survivors)
        workdir, survivors = tmp_path / f"run-{planned}", 0
