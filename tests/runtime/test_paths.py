"""Paths as people write them, at every entrance of the program."""

import importlib
import pwd
import re
from pathlib import Path

import jax
import pytest
from command_line import ROOT

import jax_resnet
from jax_resnet import config, data
from jax_resnet.__main__ import COMMANDS
from jax_resnet.data import tfds_source
from jax_resnet.distributed import device
from jax_resnet.predictor import Predictor
from jax_resnet.runtime.errors import UserError
from jax_resnet.runtime.paths import cache_folder, user_path
from jax_resnet.training import build

HOMELESS = "~nobody-here/x"
UNKNOWN = "no home folder is known for '~nobody-here/x': set HOME"


@pytest.fixture
def no_home(monkeypatch):
    """What a container with a foreign user id has: no HOME, and no such user."""

    def unknown(_):
        raise KeyError

    for name in ("HOME", "XDG_CACHE_HOME", "JAX_RESNET_CACHE", "TFDS_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        *[("~", "/me"), ("~/x", "/me/x"), (Path("~/x"), "/me/x")],
        *[("a/../b", None), (" -x. ", None), ("[1]*?{x}%s$HOME\n#:", None)],
        *[("a~", None), ("/~/x", None), ("\udcff", None), ("file:x", None)],
    ],
)
def test_only_a_home_is_replaced(monkeypatch, text, path):
    monkeypatch.setenv("HOME", "/me")
    found = user_path(text)
    assert found == Path(path or text)
    assert user_path(found) == found


def test_a_folder_that_is_called_like_a_home(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert user_path(user_path("./~nobody-here")) == tmp_path / "~nobody-here"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HOMELESS, UNKNOWN),
        ("gs://bucket/run", "is a URL: give a path of this machine"),
        ("file:///tmp/run", "is a URL"),
        ("a\0b", "has a zero byte"),
        ("", "a path is empty"),
    ],
)
def test_what_is_no_path_is_refused(text, message):
    with pytest.raises(UserError, match=message):
        user_path(text)


OPTIONS = {
    "train": ["--config", "--config=smoke --workdir"],
    "evaluate": ["--workdir", "--workdir x --output"],
    "predict": ["--workdir", "--json", "--"],
    "export": ["--workdir", "--from-pytorch", "--output"],
    "search": ["--recipes", "--workdir", "--recipes x --config"],
    "serve": ["--model"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_of_a_command(monkeypatch, name):
    monkeypatch.syspath_prepend(str(ROOT / "serve"))
    main = importlib.import_module(COMMANDS[name][0]).main
    for words in OPTIONS[name]:
        with pytest.raises(UserError, match=UNKNOWN):
            main([*words.split(), HOMELESS])


def test_every_function_and_field(tmp_path, monkeypatch):
    smoke = config.load("smoke")
    for call in (
        lambda path: jax_resnet.load(path),
        lambda path: jax_resnet.evaluate_run(path),
        lambda path: jax_resnet.fit("smoke", path),
        lambda path: jax_resnet.fit(path, tmp_path),
        lambda path: jax_resnet.fit(smoke, path),
        lambda path: Predictor.open(path),
        lambda path: build._open("train.initial_model", str(path)),
        lambda path: data.load("folder", data_dir=str(path)),
        lambda path: data.load("arrays", data_dir=str(path)),
        lambda path: data.load("cifar100", data_dir=str(path)),
        lambda path: (
            monkeypatch.setenv("TFDS_DATA_DIR", str(path))
            or data.load("cifar100", data_dir=None)
        ),
    ):
        for path in (HOMELESS, Path(HOMELESS)):
            with pytest.raises(UserError, match=UNKNOWN):
                call(path)


def test_no_home_costs_the_caches_alone(no_home, restored, caplog):
    caplog.set_level("INFO")
    with pytest.raises(UserError, match=r"no home folder is known for '~/.cache'"):
        cache_folder()
    with pytest.raises(UserError, match="cannot look for data in '~/tensorflow_data"):
        tfds_source.folder(None)
    for directory in ("", "~/x", "/\udcff/x"):
        device.cache_compilations(directory, jax.devices()[0])
        assert jax.config.jax_compilation_cache_dir is None
    assert caplog.text.count("no cache of compiled programs: ") == 3


@pytest.mark.parametrize("folder", ["/s3/tfds", "/tmp/\udcff"])
def test_a_folder_that_tfds_cannot_read_is_not_called_damaged(folder):
    with pytest.raises(UserError, match=r"cannot look for data in .*: set config"):
        tfds_source.folder(folder)


def test_texts_become_paths_nowhere_else():
    sources = [*(ROOT / "jax_resnet").rglob("*.py"), *(ROOT / "serve").glob("*.py")]
    others = r"type=Path\b|expanduser"
    found = [
        path.name for path in sources if re.search(others, path.read_text("utf-8"))
    ]
    assert found == ["paths.py"]
