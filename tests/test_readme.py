"""What README says of the code is so."""

import os
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_the_slurm_job_requeues_itself_only_when_there_is_more_to_do(
    tmp_path, code, requeued
):
    script = next(
        b for b in re.findall(r"```sh\n(.*?)```", README, re.S) if "SBATCH" in b
    )
    # There is no scheduler here: stand-ins say what it was asked.
    (tmp_path / "srun").write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/ran\nexit {code}'
    )
    (tmp_path / "scontrol").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked')
    for name in ("srun", "scontrol"):
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    job = subprocess.run(
        ["bash", "-c", script], env={**os.environ, "PATH": path, "SLURM_JOB_ID": "42"}
    )
    assert job.returncode == code
    assert "-m jax_resnet.train --config" in (tmp_path / "ran").read_text()
    asked = (tmp_path / "asked").read_text() if requeued else ""
    assert asked == ("requeue 42\n" if requeued else "")
    assert (tmp_path / "asked").exists() == bool(requeued)
