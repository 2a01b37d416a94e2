import json
import os
import re
import subprocess
import sys
import tomllib
import urllib.request
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from command_line import ROOT
from format_fixtures import make_predictor, same_arrays

from jax_resnet.checkpoint import model_folder
from jax_resnet.formats import space
from jax_resnet.predict import Predictor
from jax_resnet.runtime.errors import UserError

pytest.importorskip("gradio", reason="the extra 'serve' is not installed")


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """A model, with its evaluation beside it."""
    folder = tmp_path_factory.mktemp("model")
    model_folder.write(folder, make_predictor().stored)
    (folder / "evaluation-test.json").write_text("{}")
    (folder / "evaluation-test").mkdir()
    (folder / "evaluation-test" / "mistakes.png").write_bytes(b"a picture")
    (folder / "private.txt").write_text("not for everyone")
    return Predictor.open(folder)


@pytest.fixture(scope="module")
def folder(evaluated, tmp_path_factory):
    path = tmp_path_factory.mktemp("space") / "demo"
    space.check()
    space.write(evaluated, path)
    return path


def test_it_has_all_that_it_needs_and_nothing_else(folder, evaluated):
    space.load(folder, evaluated)
    opened = Predictor.open(folder / "model")
    assert same_arrays(evaluated, opened)
    assert (folder / "model" / "evaluation-test" / "mistakes.png").is_file()
    assert (folder / "examples" / "apple.png").is_file()
    names = {str(p.relative_to(folder)) for p in folder.rglob("*")}
    assert {"app.py", "style.css", "jax_resnet/predict.py"} <= names
    assert "model/private.txt" not in names
    assert not any("__pycache__" in name or name.endswith(".pyi") for name in names)


def test_front_matter(folder):
    _, front, body = (folder / "README.md").read_text().split("---\n", 2)
    fields = yaml.safe_load(front)
    assert fields["sdk"] == "gradio"
    assert fields["sdk_version"] == metadata.version("gradio")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert fields["python_version"] == version
    assert fields["license"] == "apache-2.0"
    assert (folder / fields["app_file"]).is_file()
    assert len(fields["short_description"]) <= 60  # more are refused by the Hub
    assert "python app.py" in body


def test_requirements_are_pinned(folder):
    lines = (folder / "requirements.txt").read_text().splitlines()
    pinned = dict(re.fullmatch(r"([\w-]+)==(\S+)", line).groups() for line in lines)
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    named = {re.match(r"[\w-]+", d)[0] for d in pyproject["project"]["dependencies"]}
    assert set(pinned) == named | {"gradio"}
    assert not {"jax-resnet-cifar", "pytest", "torch"} & set(pinned)
    assert all(metadata.version(name) == pinned[name] for name in pinned)


def test_another_model_is_noticed(folder, evaluated):
    other = make_predictor(seed=5)
    with pytest.raises(UserError, match="not the restored model"):
        space.load(folder, other)


@pytest.mark.slow
def test_it_runs_by_itself(folder):
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    where = subprocess.run(
        [sys.executable, "-c", "import jax_resnet; print(jax_resnet.__file__)"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(where.stdout.strip()).parent == folder / "jax_resnet"
    process = subprocess.Popen(
        [sys.executable, "app.py", "--port", "0"],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        line = process.stdout.readline()
        address = re.search(r"http://\S+", line).group()
        with urllib.request.urlopen(address + "/healthz", timeout=30) as response:
            assert json.load(response)["step"] == 9
    finally:
        process.kill()
        process.communicate()


def test_without_the_demo(monkeypatch, tmp_path):
    monkeypatch.setattr(space, "_DEMO", tmp_path)
    with pytest.raises(UserError, match="no demo in"):
        space.check()


def test_a_model_from_memory_has_no_evaluation(tmp_path):
    predictor = make_predictor()
    assert predictor.source is None
    space.write(predictor, tmp_path / "demo")
    found = {p.name for p in (tmp_path / "demo" / "model").iterdir()}
    assert found == {"model.safetensors", "config.json"}
