import json
import os
import re
import signal
import subprocess
import sys
import tomllib
import urllib.request
import venv
from importlib import metadata

import pytest
import yaml
from command_line import ROOT
from format_fixtures import make_predictor, same_arrays
from PIL import Image

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
        *("app.py", "style.css", "examples/apple.png", "examples/cat.jpg"),
        *("examples/examples.toml", "jax_resnet/py.typed", "thumbnail.jpg"),
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
    assert {"jax", "resnet", "image-classification"} <= set(fields["tags"])
    thumbnail = fields["thumbnail"].rsplit("/", 1)[1]
    with Image.open(folder / thumbnail) as image:
        assert image.size == (1200, 600)
    assert "python app.py" in body
    assert "Not measured" in body


def test_the_card_has_the_figures(tmp_path):
    space.write(Predictor.open(ROOT / "results" / "resnet20-cpu"), tmp_path / "demo")
    card = (tmp_path / "demo" / "README.md").read_text()
    assert "Top-1 26.54 %, top-5 56.92 % on the 10,000 images of `test`" in card


def test_requirements_are_pinned(folder):
    lines = (folder / "requirements.txt").read_text().splitlines()
    pinned = dict(re.fullmatch(r"([\w-]+)==(\S+)", line).groups() for line in lines)
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project = pyproject["project"]
    needed = project["dependencies"] + project["optional-dependencies"]["serve"]
    assert set(pinned) == {re.match(r"[\w-]+", each)[0] for each in needed}
    assert all(metadata.version(name) == pinned[name] for name in pinned)


@pytest.mark.ci
def test_it_runs_from_its_own_requirements_and_stops_on_sigterm(folder, tmp_path):
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    install = ["-m", "pip", "install", "--quiet", "--no-compile", "-r"]
    subprocess.run(
        [python, *install, folder / "requirements.txt"], env=environment, check=True
    )
    process = subprocess.Popen(
        [python, "app.py", "--port", "0"],
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
        with urllib.request.urlopen(address, timeout=30) as response:
            assert "What is in the picture?" in response.read().decode()
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 143
        assert process.stderr.read() == ""
    finally:
        process.kill()
        process.communicate()
