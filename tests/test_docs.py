"""The documentation is right: snippets run, commands parse, links and names exist."""

import argparse
import contextlib
import gc
import importlib
import itertools
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tomllib

import jax
import numpy as np
import pytest
import yaml
from command_line import JAX_SETTINGS, ROOT
from test_layout import LAYERS

from jax_resnet import config, export

GUIDES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES = [*GUIDES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
PAGES += sorted((ROOT / "serve").glob("*.md"))
CONFIGS = [*sorted(ROOT.glob("configs/*.py")), ROOT / "configs/recipes.toml"]
COMMANDS = ("train", "evaluate", "search", "export")
PROGRAMS = {f"jax_resnet.{name}": f"jax_resnet.{name}" for name in COMMANDS}
PROGRAMS |= {"jax_resnet.search": "jax_resnet.search.__main__", "serve/app.py": "app"}


def name_of(path):
    return str(path.relative_to(ROOT))


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.S | re.M)


def prose(page):
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.S | re.M)


def inline_code(page):
    return re.findall(r"`([^`\n]+)`", prose(page))


def calls(script):
    """Yields program and arguments of every command that calls this project."""
    for line in script.replace("\\\n", " ").splitlines():
        if "python" in line:
            lexer = shlex.shlex(line, posix=True, punctuation_chars="&|;")
            lexer.whitespace_split = True
            for _, words in itertools.groupby(lexer, lambda word: word[:1] in "&|;"):
                command = list(words)
                for place, word in enumerate(command):
                    if re.match(r"jax_resnet\.|serve/", word):
                        yield word, command[place + 1 :]


class ParserReachedError(Exception):
    """Carries a command's parser, and what it made of the arguments."""


def reach_parser(monkeypatch, program, arguments, *, parse=True):
    """Calls a command up to its parser; returns parser, options and other words."""
    real = argparse.ArgumentParser.parse_known_args

    def stop(parser, words=None, namespace=None):
        found = real(parser, words, namespace) if parse else (None, None)
        raise ParserReachedError(parser, *found)

    main = importlib.import_module(PROGRAMS[program]).main
    gc.enable()  # the demo switches it off for its process
    with monkeypatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_known_args", stop)
        with pytest.raises(ParserReachedError) as reached:
            main(arguments)
    return reached.value.args


def check_call(monkeypatch, program, arguments):
    _, options, rest = reach_parser(monkeypatch, program, arguments)
    if "config" in options:
        config.load(options.config, rest)
    else:
        assert not rest


def test_commands_parse(monkeypatch):
    monkeypatch.chdir(ROOT)
    found = set()
    for page in PAGES:
        for script in blocks(page, "sh"):
            for program, arguments in calls(script):
                check_call(monkeypatch, program, arguments)
                found.add(program)
    assert found == set(PROGRAMS)


@pytest.mark.parametrize("path", CONFIGS, ids=name_of)
def test_commands_in_configs_parse(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    text = re.sub(r"^#", "", path.read_text(), flags=re.M)
    found = re.findall(r"^ *(python -m (?:.*\\\n)*.*)", text, re.M)
    assert found
    for script in found:
        for program, arguments in calls(script):
            check_call(monkeypatch, program, arguments)


def test_programs_exist():
    for page in PAGES:
        for program in re.findall(
            r"python (?:-m )?((?:jax_resnet|serve)[\w./]*)", page.read_text()
        ):
            assert program in PROGRAMS, name_of(page)


def test_options_exist(monkeypatch):
    known = (ROOT / "tests/conftest.py").read_text()  # of pytest
    for program in PROGRAMS:
        parser, _, _ = reach_parser(monkeypatch, program, [], parse=False)
        known += parser.format_help()
    options = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", known))
    for page in PAGES:
        for code in inline_code(page):
            if match := re.match(r"--[a-z][a-z-]*(?=[ =]|$)", code):
                assert match.group() in options, f"{name_of(page)}: {code}"


def test_fields_exist():
    settings = config.load(str(ROOT / "configs/resnet56.py"))
    fields = config.flatten(settings)
    for page in [*GUIDES, ROOT / "CONTRIBUTING.md"]:
        for code in inline_code(page):
            code = re.sub(r"^--config\.", "", code)
            match = re.match(r"([a-z]+)\.[a-z_.]+", code)
            if match and match.group(1) in settings and not code.endswith(".py"):
                assert match.group() in fields, f"{name_of(page)}: {code}"


def test_layout_has_the_order_of_imports():
    page = (ROOT / "docs/layout.md").read_text()
    rows = re.findall(r"^\d+\. ((?:`\w+`(?:, )?)+)$", page, re.M)
    assert [set(re.findall(r"\w+", row)) for row in rows] == LAYERS


def test_recipes_set_fields():
    for page in GUIDES:
        for block in blocks(page, "toml"):
            for recipe in tomllib.loads(block).values():
                recipe.pop("why", None)
                words = [f"--config.{f}={v}" for f, v in config.flatten(recipe).items()]
                config.load(str(ROOT / "configs/resnet56.py"), words)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_paths_exist(page):
    for code in inline_code(page):
        if re.match(
            r"(\.github|configs|docs|jax_resnet|results|serve|tests)/\S*$", code
        ):
            assert (ROOT / code).exists() or "NAME" in code, code
        if re.fullmatch(r"test_\w+", code):
            assert list(ROOT.glob(f"tests/**/{code}.py")), code


def test_constants_exist():
    sources = [*ROOT.glob("jax_resnet/**/*.py"), *ROOT.glob("tests/*.py")]
    names = {name for s in sources for name in re.findall(r"\w+", s.read_text())}
    for code in inline_code(ROOT / "CONTRIBUTING.md"):
        if re.fullmatch(r"_?[A-Z_]{4,}", code):
            assert code in names, code


@pytest.mark.parametrize("page", [*PAGES, ROOT / "benchmarks/README.md"], ids=name_of)
def test_links(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"\w+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


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


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


@pytest.fixture
def place(tiny, finished, tmp_path, monkeypatch):
    """The working folder of a reader: it has a trained run and pictures."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", tiny.environment["XDG_CACHE_HOME"])
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/resnet56").symlink_to(finished)
    for name in ("apple.png", "cat.png"):
        shutil.copy(ROOT / "serve/examples/apple.png", name)
    settings = {name: getattr(jax.config, name) for name in JAX_SETTINGS}
    yield tmp_path
    for name, value in settings.items():
        jax.config.update(name, value)


def run_snippet(snippet):
    """Runs it; returns its variables, or None if a package that it needs is missing."""
    found = {}
    try:
        with contextlib.redirect_stdout(None):
            exec(compile(snippet, "<snippet>", "exec"), found)
    except ModuleNotFoundError as error:
        if error.name.partition(".")[0] not in ("onnxruntime", "torch"):
            raise
        return None
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", ["README.md", "docs/data.md", "docs/augmentations.md"])
def test_snippets_run(place, name):
    snippets = blocks(ROOT / name, "python")
    assert snippets
    for snippet in snippets:
        assert run_snippet(snippet)


@pytest.mark.slow
def test_exported_models_predict_as_their_snippets_say(place):
    page = ROOT / "docs/formats.md"
    exports = [c for b in blocks(page, "sh")[:1] for c in calls(b)]
    assert len(exports) == 4
    for _, arguments in exports:
        if "onnx" in arguments and not importlib.util.find_spec("onnxruntime"):
            continue
        assert export.main(arguments) == 0
    ran = [run_snippet(snippet) for snippet in blocks(page, "python")]
    results = [r["probabilities"] for r in ran if r and "probabilities" in r]
    assert len(results) >= 2
    for probabilities in results:
        np.testing.assert_allclose(probabilities, results[0], atol=1e-6)


def test_every_page_with_snippets_is_run():
    """But for the page of the demo, which needs a server, see below."""
    pages = {name_of(page) for page in PAGES if blocks(page, "python")}
    ran = {"README.md", "docs/data.md", "docs/augmentations.md", "docs/formats.md"}
    assert pages - {"docs/demo.md", "serve/README.md"} == ran


@pytest.mark.ci
def test_the_demo_answers_its_snippets(place):
    pytest.importorskip("gradio_client", reason="the extra 'serve' is missing")
    with socket.socket() as one:
        if one.connect_ex(("127.0.0.1", 7860)) == 0:
            pytest.skip("another program uses the port of the demo")
    app = [sys.executable, str(ROOT / "serve/app.py"), "--model", "runs/resnet56"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(app, env=environment, stdout=subprocess.PIPE) as server:
        try:
            assert b"http://127.0.0.1:7860" in server.stdout.readline()
            for page in (ROOT / "docs/demo.md", ROOT / "serve/README.md"):
                for snippet in blocks(page, "python"):
                    answer = run_snippet(snippet)["answer"]
                    assert 0 < answer["confidence"] <= 1
                for script in blocks(page, "sh"):
                    if "curl" in script:
                        answer = subprocess.check_output(["bash", "-c", script])
                        assert b"confidence" in answer
        finally:
            server.kill()
