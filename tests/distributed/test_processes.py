"""Two processes, talking over loopback, train together as one would alone."""

import signal

import pytest
from command_line import assert_checkpoints_sound, assert_one_line, run, run_here
from process_fixtures import Group, assert_close_runs

from jax_resnet.checkpoint import store
from jax_resnet.runtime.lock import workdir_lock

# At this rate the rounding of float32 does not grow visibly in thirty steps.
STEPS = (
    "--config.data.train_split=train[:320]",
    "--config.train.epochs=3",
    "--config.optimizer.learning_rate=0.001",
)
STEP_BY_STEP = "--config.train.steps_per_call=1"


@pytest.fixture(scope="module")
def alone(tiny, tmp_path_factory):
    """The same run on one device."""
    workdir = tmp_path_factory.mktemp("alone") / "run"
    result = run_here(tiny, workdir, *STEPS)
    assert result.returncode == 0, result.stderr
    return workdir


@pytest.mark.ci
def test_two_processes_have_the_result_of_one(tiny, alone, tmp_path):
    workdir = tmp_path / "run"
    with Group(tiny, workdir, *STEPS, devices=2, slurm=True) as group:
        assert group.wait() == [0, 0], group.log(0)
        assert "4 x CPU" in group.log(0)
        assert "epoch" not in group.log(1)  # only the first reports
    assert "2 processes" in (workdir / "log.md").read_text()
    assert_close_runs(workdir, alone)


@pytest.mark.ci
def test_a_signal_to_one_stops_all_and_one_process_resumes(tiny, alone, tmp_path):
    workdir = tmp_path / "run"
    with Group(tiny, workdir, *STEPS, STEP_BY_STEP) as group:
        group.wait_for("epoch 1/3")
        group[1].send_signal(signal.SIGTERM)
        assert group.wait() == [75, 143], group.log(0)
    step = store.select(workdir, "latest").step
    assert 10 <= step < 30
    result = run_here(tiny, workdir, *STEPS)
    assert result.returncode == 0, result.stderr
    assert f"resuming at step {step}" in result.stdout
    assert_close_runs(workdir, alone)


@pytest.mark.ci
def test_a_killed_process_ends_the_others_and_loses_nothing(tiny, alone, tmp_path):
    workdir = tmp_path / "run"
    with Group(tiny, workdir, *STEPS, STEP_BY_STEP) as group:
        group.wait_for("epoch 1/3")
        group[1].kill()
        assert group.wait(timeout=60)[0] == 75
        last = group.log(0).splitlines()[-1]
        assert last.startswith("error: another process has gone")
    assert_checkpoints_sound(workdir)
    result = run_here(tiny, workdir, *STEPS)
    assert result.returncode == 0, result.stderr
    assert_close_runs(workdir, alone)


@pytest.mark.ci
def test_an_error_of_one_process_ends_all(tiny, tmp_path):
    own = ((), ("--config.seed=1",))
    with Group(tiny, tmp_path / "run", *STEPS, own=own) as group:
        assert group.wait() == [2, 2], group.log(0)
        for index in (0, 1):
            assert "error: process 1 on" in group.log(index)
            assert "another config" in group.log(index)
    workdir = tmp_path / "locked"
    with workdir_lock(workdir), Group(tiny, workdir, *STEPS) as group:
        assert group.wait() == [2, 2], group.log(0)
        assert "error: workdir" in group.log(0)
        assert "error: process 0 on" in group.log(1)


@pytest.mark.ci
def test_processes_that_cannot_be_connected(tiny, tmp_path, monkeypatch):
    # One of the variables that Open MPI sets together.
    monkeypatch.setenv("OMPI_MCA_orte_hnp_uri", "1.0;tcp://127.0.0.1:1")
    result = run(tiny, tmp_path / "run", "--distributed")
    message = "cannot be connected: no variable 'OMPI_COMM_WORLD_.*--coordinator HOST:"
    assert_one_line(result, message)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--coordinator=127.0.0.1:1"], "go together"),
        (["--num-processes=2", "--process-id=0"], "go together"),
        (
            ["--coordinator=a b:1", "--num-processes=2", "--process-id=0"],
            "--coordinator must be HOST:PORT .* not 'a b:1'",
        ),
        (["--distributed", "--seeds=0,1"], "--seeds is for one process"),
    ],
)
def test_bad_arguments(tiny, tmp_path, arguments, message):
    assert_one_line(run_here(tiny, tmp_path / "run", *arguments), message)
