"""Real processes, talking over loopback, train together as one would alone."""

import os
import shutil
import signal
import time

import numpy as np
import pytest
from command_line import (
    assert_checkpoints_sound,
    assert_one_line,
    final_arrays,
    records,
    run,
)
from process_fixtures import FIFTY_STEPS, Group

from jax_resnet.checkpoint import store
from jax_resnet.runtime.lock import workdir_lock

STEP_BY_STEP = "--config.train.steps_per_call=1"
LOSSES = ("train_loss", "val_loss")


@pytest.fixture(scope="module")
def alone(tiny, tmp_path_factory):
    """Fifty steps on one device."""
    workdir = tmp_path_factory.mktemp("alone") / "run"
    result = run(tiny, workdir, *FIFTY_STEPS)
    assert result.returncode == 0, result.stderr
    return workdir


def assert_same_losses(workdir, expected):
    found, expected = records(workdir), records(expected)
    assert [r["step"] for r in found] == [r["step"] for r in expected]
    for name in LOSSES:
        np.testing.assert_allclose(
            [r[name] for r in found], [r[name] for r in expected], rtol=0, atol=1e-5
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("processes", "devices"),
    [
        (2, 2),
        pytest.param(2, 4, marks=pytest.mark.many),
        pytest.param(4, 1, marks=pytest.mark.many),
    ],
)
def test_fifty_steps_have_the_losses_of_one_device(
    tiny, alone, tmp_path, processes, devices
):
    workdir = tmp_path / "run"
    options = {"devices": devices, "slurm": processes == 2}
    with Group(tiny, workdir, processes, *FIFTY_STEPS, **options) as group:
        assert group.wait() == [0] * processes, group.log(0)
        assert f"{processes * devices} x CPU" in group.log(0)
        assert f"{processes} processes" in (workdir / "log.md").read_text()
        assert "epoch" not in group.log(1)  # one of them speaks
    assert_same_losses(workdir, alone)
    assert_checkpoints_sound(workdir)


@pytest.mark.slow
def test_a_signal_to_one_stops_all_and_other_devices_carry_on(
    tiny, alone, tmp_path, request
):
    workdir = tmp_path / "run"
    with Group(tiny, workdir, 2, *FIFTY_STEPS, STEP_BY_STEP) as group:
        group.wait_for("epoch 2/5")
        group[1].send_signal(signal.SIGTERM)
        started = time.monotonic()
        assert group.wait() == [75, 143], group.log(0)
        assert time.monotonic() - started < 10
        assert "the same command resumes" in group.log(0)
    assert_checkpoints_sound(workdir)
    step = store.select(workdir, "latest").step
    assert 20 <= step < 50

    # One process, with one device and with eight; and two processes again.
    many = request.config.getoption("--many-faults")
    copies = []
    for place in [tiny, *([tiny._replace(devices=8)] if many else [])]:
        copies.append(shutil.copytree(workdir, tmp_path / f"copy-{len(copies)}"))
        result = run(place, copies[-1], *FIFTY_STEPS)
        assert result.returncode == 0, result.stderr
        assert f"resuming at step {step}" in result.stdout
    if many:
        copies.append(workdir)
        with Group(tiny, workdir, 2, *FIFTY_STEPS) as group:
            assert group.wait() == [0, 0], group.log(0)
            assert f"resuming at step {step}" in group.log(0)
    for path in copies:
        assert_same_losses(path, alone)
        found = final_arrays(path)
        for name, array in final_arrays(alone).items():
            if name.startswith("state.params."):
                np.testing.assert_allclose(found[name], array, atol=1e-3, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("killed", [1, pytest.param(0, marks=pytest.mark.many)])
def test_a_killed_process_stops_all_and_loses_nothing(tiny, alone, tmp_path, killed):
    workdir = tmp_path / "run"
    with Group(tiny, workdir, 2, *FIFTY_STEPS, STEP_BY_STEP) as group:
        group.wait_for("epoch 2/5")
        group[killed].kill()
        codes = group.wait(timeout=60)
        survivor = 1 - killed
        if killed:  # the first is JAX's coordinator, without which it ends the others
            assert codes[survivor] == 75
            last = group.log(survivor).splitlines()[-1]
            assert last.startswith("error: another process has gone")
        assert codes[survivor] != 0
    assert_checkpoints_sound(workdir)
    result = run(tiny, workdir, *FIFTY_STEPS)
    assert result.returncode == 0, result.stderr
    assert_same_losses(workdir, alone)


def test_processes_of_different_configs_are_refused(tiny, tmp_path):
    own = ([], ["--config.seed=1"])
    with Group(tiny, tmp_path / "run", 2, *FIFTY_STEPS, own=own) as group:
        assert group.wait() == [2, 2], group.log(0)
        for index in (0, 1):
            errors = [x for x in group.log(index).splitlines() if "error" in x]
            assert len(errors) == 1
            assert "process 1 on" in errors[0] and "another config" in errors[0]


def test_what_goes_wrong_in_one_is_said_by_all(tiny, tmp_path):
    workdir = tmp_path / "run"
    with workdir_lock(workdir), Group(tiny, workdir, 2, *FIFTY_STEPS) as group:
        assert group.wait() == [2, 2], group.log(0)
        assert "error: workdir" in group.log(0)
        assert "error: process 0 on" in group.log(1)
        assert f"is in use by process {os.getpid()}" in group.log(1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--coordinator=127.0.0.1:1"], "go together"),
        (["--num-processes=2", "--process-id=0"], "go together"),
        (["--distributed"], "cannot be connected.*--coordinator HOST:PORT"),
        (["--distributed", "--seeds=0,1"], "--seeds is for one process"),
        (
            ["--coordinator=nothing", "--num-processes=1", "--process-id=0"],
            "cannot be connected",
        ),
        (
            ["--coordinator=127.0.0.1:1", "--num-processes=2", "--process-id=2"],
            "cannot be connected",
        ),
    ],
)
def test_bad_arguments(tiny, tmp_path, arguments, message):
    assert_one_line(run(tiny, tmp_path / "run", *arguments), message)
