"""The SLURM job of docs/devices.md goes back into the queue when it should."""

import os
import re
import subprocess

import pytest
from command_line import ROOT


@pytest.mark.parametrize(
    ("code", "requeued"), [(0, False), (2, False), (75, True), (143, True)]
)
def test_the_slurm_job_requeues_itself(tmp_path, code, requeued):
    page = (ROOT / "docs/devices.md").read_text()
    (script,) = [
        b for b in re.findall(r"```sh\n(.*?)```", page, re.S) if "#SBATCH" in b
    ]
    # There is no scheduler here: stand-ins note what they are called with.
    (tmp_path / "srun").write_text(
        f'#!/bin/sh\necho "$@" > {tmp_path}/ran\nexit {code}'
    )
    (tmp_path / "scontrol").write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked')
    for name in ("srun", "scontrol"):
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    job = subprocess.run(
        ["bash", "-c", script], env={**os.environ, "PATH": path, "SLURM_JOB_ID": "42"}
    )
    assert job.returncode == code
    assert "-m jax_resnet.train --config" in (tmp_path / "ran").read_text()
    asked = tmp_path / "asked"
    assert asked.exists() == requeued
    assert not requeued or asked.read_text() == "requeue 42\n"
