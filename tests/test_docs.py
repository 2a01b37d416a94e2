"""The documentation is right: snippets run, commands parse, links and names exist."""

import argparse
import contextlib
import gc
import importlib
import io
import itertools
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from unittest import mock

import jax
import numpy as np
import pytest
import yaml
from command_line import ROOT, jax_settings_restored, unchecked

from jax_resnet import config, export

GUIDES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
PAGES = [*GUIDES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
PAGES += [*sorted(ROOT.glob("serve/*.md")), *sorted(ROOT.glob("benchmarks/*.md"))]
CONFIGS = [*sorted(ROOT.glob("configs/*.py")), ROOT / "configs/recipes.toml"]
REFERENCE = str(ROOT / "configs/resnet56.py")
CALL = r"python (?:-m )?((?:jax_resnet|serve)[\w./]*)(.*)"
PROGRAMS = {
    "jax_resnet.train": "jax_resnet.train",
    "jax_resnet.evaluate": "jax_resnet.evaluate",
    "jax_resnet.search": "jax_resnet.search.__main__",
    "jax_resnet.predict": "jax_resnet.predict",
    "jax_resnet.export": "jax_resnet.export",
    "serve/app.py": "app",
}


def name_of(path):
    return str(path.relative_to(ROOT))


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.S | re.M)


def prose(page):
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.S | re.M)


def inline_code(page):
    return re.findall(r"`([^`\n]+)`", prose(page))


def commands(text):
    """Yields program and arguments of every command that calls this project."""
    for program, arguments in re.findall(CALL, text.replace("\\\n", " ")):
        words = shlex.split(arguments, comments=True)
        yield program, [*itertools.takewhile(lambda w: w not in ("&&", "|"), words)]


def parser_of(program):
    """Returns the parser of a command, which is stopped where it would parse."""
    main = importlib.import_module(PROGRAMS[program]).main
    stopped = {"autospec": True, "side_effect": EOFError}
    method = mock.patch.object(argparse.ArgumentParser, "parse_known_args", **stopped)
    with method as parse, pytest.raises(EOFError):
        main([])
    gc.enable()  # the demo switches it off for its process
    return parse.call_args.args[0]


@pytest.mark.parametrize("path", [*PAGES, *CONFIGS], ids=name_of)
def test_commands_parse(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    text = path.read_text()
    assert {program for program, _ in re.findall(CALL, text)} <= set(PROGRAMS)
    if path.suffix == ".md":
        text = "\n".join(blocks(path, "sh"))
    for program, arguments in commands(text.replace("\n#", "\n")):
        options, rest = parser_of(program).parse_known_args(arguments)
        if "config" in options:
            config.load(options.config, rest)
        else:
            assert not rest


def test_options_exist():
    known = (ROOT / "tests/conftest.py").read_text()  # of pytest
    known += "".join(parser_of(program).format_help() for program in PROGRAMS)
    options = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", known))
    for page in [*GUIDES, ROOT / "CONTRIBUTING.md"]:
        for code in inline_code(page):
            if match := re.match(r"--[a-z][a-z-]*(?=[ =]|$)", code):
                assert match.group() in options, f"{name_of(page)}: {code}"


def test_fields_exist():
    settings = config.load(REFERENCE)
    fields = config.flatten(settings)
    for page in [*GUIDES, ROOT / "CONTRIBUTING.md"]:
        for code in inline_code(page):
            match = re.match(r"(?:--config\.)?(([a-z]+)\.[a-z_.]+)", code)
            if match and match.group(2) in settings and not code.endswith(".py"):
                assert match.group(1) in fields, f"{name_of(page)}: {code}"


def test_recipes_set_fields():
    for block in blocks(ROOT / "docs/search.md", "toml"):
        for recipe in tomllib.loads(block).values():
            recipe.pop("why", None)
            words = [f"--config.{f}={v}" for f, v in config.flatten(recipe).items()]
            config.load(REFERENCE, words)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_paths_and_links_exist(page):
    for code in inline_code(page):
        if re.match(
            r"(\.github|configs|docs|jax_resnet|results|serve|tests)/\S*$", code
        ):
            assert (ROOT / code).exists() or "NAME" in code, code
        if re.fullmatch(r"test_\w+", code):
            assert list(ROOT.glob(f"tests/**/{code}.py")), code
    for path, anchor in re.findall(r"\]\((?!\w+:)([^)\s#]*)#?([^)\s]*)\)", prose(page)):
        target = page.parent / path if path else page
        assert target.exists(), path
        assert not anchor or anchor in anchors(target), f"{path}#{anchor}"


def anchors(page):
    """Returns the anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.M)
    kept = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.replace(" ", "-") for heading in kept}


def test_versions_agree():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert citation["version"] == version
    assert f"## {version} " in (ROOT / "CHANGELOG.md").read_text()


@pytest.fixture
def place(finished, tmp_path, monkeypatch):
    """The working folder of a reader: it has a trained run and a picture."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/resnet56").symlink_to(finished)
    shutil.copy(ROOT / "serve/examples/apple.png", "apple.png")
    # One device, as readers have: eight take long to compile for.
    monkeypatch.setattr(jax, "devices", lambda: jax.local_devices()[:1])
    with jax_settings_restored(), unchecked():
        yield


def run_snippet(snippet):
    """Runs it as a file; returns its variables, none without an optional package."""
    path = Path("snippet.py")
    path.write_text(snippet)
    try:
        with contextlib.redirect_stdout(io.StringIO()) as output:
            return {**runpy.run_path(str(path)), "printed": output.getvalue()}
    except ModuleNotFoundError as error:
        if error.name.partition(".")[0] not in ("onnxruntime", "torch"):
            raise
        return {}


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_snippets_run(place, page):
    if page.stem not in ("formats", "demo"):  # see below
        ran = [run_snippet(snippet) for snippet in blocks(page, "python")]
        for expected in blocks(page, "text"):
            assert expected in [found.get("printed") for found in ran]


@pytest.mark.slow
def test_exported_models_predict_as_their_snippets_say(place):
    page = ROOT / "docs/formats.md"
    for _, arguments in commands(blocks(page, "sh")[0]):
        if "onnx" not in arguments or importlib.util.find_spec("onnxruntime"):
            assert export.main(arguments) == 0
    ran = [run_snippet(snippet) for snippet in blocks(page, "python")]
    results = [found["probabilities"] for found in ran if "probabilities" in found]
    assert len(results) >= 2
    for probabilities in results:
        np.testing.assert_allclose(probabilities, results[0], atol=1e-6)


@pytest.mark.ci
def test_the_demo_answers_its_snippets(place):
    pytest.importorskip("gradio_client", reason="the extra 'serve' is missing")
    app = [sys.executable, str(ROOT / "serve/app.py"), "--model", "runs/resnet56"]
    with subprocess.Popen(app, stdout=subprocess.PIPE) as server:
        try:
            assert b"http://127.0.0.1:7860" in server.stdout.readline()
            (snippet,) = blocks(ROOT / "docs/demo.md", "python")
            assert 0 < run_snippet(snippet)["answer"]["confidence"] <= 1
            for script in blocks(ROOT / "serve/README.md", "sh"):
                if "curl" in script:
                    answer = subprocess.check_output(["bash", "-c", script])
                    assert b"confidence" in answer
        finally:
            server.kill()
