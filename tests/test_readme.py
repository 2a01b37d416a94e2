"""What README says of the code is so."""

import ast
import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def imported(path, package):
    """The modules of a package that a file imports, by their first part."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            parts, above = node.module.split("."), package.split(".")
            if parts == above:
                yield from (alias.name for alias in node.names)
            elif parts[: len(above)] == above:
                yield parts[len(above)]


@pytest.mark.parametrize(
    ("heading", "package"),
    [
        ("## The rooms", "jax_resnet"),
        ("### The training package", "jax_resnet.training"),
    ],
)
def test_imports_point_up_the_list_of_rooms(heading, package):
    table = re.split(r"^##", README.split(f"\n{heading}\n")[1], flags=re.M)[0]
    rows = re.findall(r"^\| (`.*?) \|", table, re.M)
    row_of = {
        name: row
        for row, cell in enumerate(rows)
        for name in re.findall(r"`(\w+)/?`", cell)
    }
    folder = ROOT / package.replace(".", "/")
    files = {p: p.stem for p in folder.glob("*.py") if p.stem != "__init__"}
    files |= {p: p.parent.name for p in folder.glob("*/*.py")}
    assert set(row_of) == set(files.values())
    for path, name in files.items():
        for other in set(imported(path, package)) - {"__version__", "IMPORTED"}:
            assert row_of[other] <= row_of[name], f"{path.name} imports {other}"


@pytest.mark.parametrize(("code", "requeued"), [(0, 0), (2, 0), (75, 1), (143, 1)])
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
