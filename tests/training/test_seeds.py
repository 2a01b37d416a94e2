import json
import shutil
import statistics
import threading
from functools import partial

import jax
import jax.numpy as jnp
import pytest
from command_line import assert_one_line, assert_same_run, records, run_here
from step_fixtures import StopAfter

from jax_resnet.distributed.mesh import DeviceMesh
from jax_resnet.runtime.errors import UserError
from jax_resnet.training import seeds


@pytest.mark.slow
@pytest.mark.parametrize("devices", [2, pytest.param(1, marks=pytest.mark.ci)])
def test_runs_of_seeds_are_what_each_is_alone(tiny, finished, tmp_path, devices):
    workdir = tmp_path / "run"
    options = ("--seeds", "0,3", f"--config.mesh.devices={devices}")
    result = run_here(tiny, workdir, *options)
    assert result.returncode == 0, result.stderr
    assert "seed 3: epoch 3/3" in result.stdout
    # The seed of the config is 0.
    assert_same_run(workdir / "seed-0", finished)
    alone = json.loads((workdir / "seed-3" / "config.json").read_text())
    assert alone["seed"] == 3
    assert "--config.seed=3" in (workdir / "seed-3" / "log.md").read_text()
    table = json.loads((workdir / "seeds.json").read_text())
    values = [records(workdir / f"seed-{n}")[-1]["val_top1"] for n in (0, 3)]
    assert table["complete"] is True and table["n"] == 2
    assert table["last"]["mean"] == pytest.approx(statistics.fmean(values))
    assert table["last"]["std"] == pytest.approx(statistics.stdev(values))
    assert f"| {100 * values[1]:.2f} |" in (workdir / "seeds.md").read_text()


@pytest.mark.slow
def test_a_seed_that_fails_leaves_the_others(tiny, finished, tmp_path):
    workdir = tmp_path / "run"
    (workdir / "seed-1").mkdir(parents=True)
    (workdir / "seed-1" / "config.json").write_text("[]")
    shutil.copytree(finished, workdir / "seed-0")
    result = run_here(tiny, workdir, "--seeds", "1,0")
    assert_one_line(result, "config.json is damaged")
    assert "seed 0: tiny in" in result.stdout and "is complete" in result.stdout
    table = json.loads((workdir / "seeds.json").read_text())
    assert table["n"] == 1 and table["complete"] is False
    assert table["last"]["std"] is None
    assert "(unfinished)" in (workdir / "seeds.md").read_text()


def test_jobs_have_a_device_each():
    both = threading.Barrier(2, timeout=30)
    devices = jax.devices()[:2]

    def job(number, alone):
        (device,) = alone.devices
        assert jnp.zeros(()).devices() == {device}
        if number < 2:
            both.wait()
        seen.append(device)
        if number == 1:
            raise UserError("number 1")
        return number

    seen = []
    jobs = [partial(job, number) for number in range(4)]
    runs = seeds.run_each(jobs, DeviceMesh(tuple(devices)), StopAfter(3))
    assert len(seen) == 3 and set(seen) == set(devices)
    # The last two start at once, and either may be the third to ask.
    ended = [runs[number].result() for number in (0, 2, 3)]
    assert ended in ([0, 2, None], [0, None, 3])
    with pytest.raises(UserError, match="number 1"):
        seeds.results_of(runs)
