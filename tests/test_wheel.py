"""A wheel is the whole project: it trains, predicts and exports from any folder."""

import os
import subprocess
import sys
import zipfile

import pytest
from command_line import ROOT

SHORT = ("--config.data.train_split=train[:64]", "--config.data.eval_split=test[:10]")
SHORT += ("--config.train.epochs=1", "--config.mesh.devices=1")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The unpacked wheel of this source tree."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--wheel-dir", folder, ROOT], check=True)
    (built,) = folder.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        assert not [name for name in archive.namelist() if "__pycache__" in name]
        archive.extractall(folder / "installed")
    return folder / "installed"


@pytest.mark.ci
def test_a_wheel_works_from_any_folder(wheel, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(wheel)}

    def call(*words):
        command = [sys.executable, "-m", "jax_resnet", *words]
        return subprocess.check_output(command, cwd=tmp_path, env=environment)

    assert b"train a model" in call()
    assert b"done: last epoch" in call("train", "--config", "smoke", *SHORT)
    picture = str(ROOT / "serve/examples/apple.png")
    assert b"apple.png: " in call("predict", "--workdir", "runs/smoke", picture)
    output = ("--workdir", "runs/smoke", "--format", "space", "--output", "demo")
    assert b"arrays identical" in call("export", *output)
    assert (tmp_path / "demo/app.py").is_file()
    assert not (tmp_path / "demo/jax_resnet/serve").exists()
    assert "jax==" in (tmp_path / "demo/requirements.txt").read_text()
    assert b"--max-queue" in call("serve", "--help")
