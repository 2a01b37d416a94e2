import json
import os
import re
import signal
import subprocess
import sys
import tomllib
import urllib.request
from importlib import metadata

import pytest
import yaml
from command_line import ROOT
from format_fixtures import make_predictor, same_arrays

from jax_resnet.checkpoint import model_folder
from jax_resnet.formats import space
from jax_resnet.predictor import Predictor

pytest.importorskip("gradio", reason="the extra 'serve' is not installed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A Space, of a model with its evaluation beside it."""
    source = tmp_path_factory.mktemp("model")
    model_folder.write(source, make_predictor().stored)
    (source / "evaluation-test.json").write_text("{}")
    (source / "evaluation-test").mkdir()
    (source / "evaluation-test" / "mistakes.png").write_bytes(b"a picture")
    (source / "private.txt").write_text("not for everyone")
    path = tmp_path_factory.mktemp("space") / "demo"
    space.check()
    space.write(Predictor.open(source), path)
    return path


def test_it_has_all_that_it_needs_and_nothing_else(folder):
    assert same_arrays(make_predictor(), space.load(folder, make_predictor()))
    names = {str(path.relative_to(folder)) for path in folder.rglob("*")}
    assert {
        *("app.py", "style.css", "examples/apple.png", "jax_resnet/py.typed"),
        *("model/evaluation-test.json", "model/evaluation-test/mistakes.png"),
    } <= names
    # Asked of the files: an editable installation would stand in for missing modules.
    modules = {str(p.relative_to(ROOT)) for p in ROOT.glob("jax_resnet/**/*.py")}
    assert modules <= names
    assert "model/private.txt" not in names
    assert not any("__pycache__" in name or name.endswith(".pyi") for name in names)


def test_front_matter(folder):
    _, front, body = (folder / "README.md").read_text().split("---\n", 2)
    fields = yaml.safe_load(front)
    assert fields["sdk"] == "gradio"
    assert fields["sdk_version"] == metadata.version("gradio")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert fields["python_version"] == version
    assert (folder / fields["app_file"]).is_file()
    assert len(fields["short_description"]) <= 60  # the Hub's limit
    assert "python app.py" in body


def test_requirements_are_pinned(folder):
    lines = (folder / "requirements.txt").read_text().splitlines()
    pinned = dict(re.fullmatch(r"([\w-]+)==(\S+)", line).groups() for line in lines)
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project = pyproject["project"]
    needed = project["dependencies"] + project["optional-dependencies"]["serve"]
    assert set(pinned) == {re.match(r"[\w-]+", each)[0] for each in needed}
    assert all(metadata.version(name) == pinned[name] for name in pinned)


@pytest.mark.ci
def test_it_runs_by_itself_and_stops_on_sigterm(folder):
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    where = [sys.executable, "-c", "import jax_resnet; print(jax_resnet.__file__)"]
    found = subprocess.check_output(where, cwd=folder, env=environment, text=True)
    assert found.strip() == str(folder / "jax_resnet" / "__init__.py")
    process = subprocess.Popen(
        [sys.executable, "app.py", "--port", "0"],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        address = re.search(r"http://\S+", process.stdout.readline()).group()
        with urllib.request.urlopen(address + "/healthz", timeout=30) as response:
            assert json.load(response)["step"] == 9
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 143
        assert process.stderr.read() == ""
    finally:
        process.kill()
        process.communicate()
