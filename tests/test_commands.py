"""The commands as a whole: their list, names of configs, and what they import."""

import subprocess
import sys

import pytest
from command_line import ROOT

from jax_resnet import __main__, config, train
from jax_resnet.config import hints
from jax_resnet.runtime.errors import UserError

# Imports every command with bad arguments, and prints the heavy modules that came too.
IMPORTS = """
import importlib, sys
sys.path.insert(0, "serve")
from jax_resnet.__main__ import COMMANDS
from jax_resnet.runtime.errors import UserError
for name, (module, _) in COMMANDS.items():
    try:
        importlib.import_module(module).main(["--nonsense"])
    except UserError:
        continue
    raise AssertionError(name)
print(*{"jax", "flax", "tensorflow_datasets", "gradio"} & sys.modules.keys())
"""


def test_the_commands_are_listed(capsys):
    assert __main__.main([]) == 0
    printed = capsys.readouterr().out
    assert all(f"  {name} " in printed for name in __main__.COMMANDS)
    with pytest.raises(UserError, match="no command 'trian'; did you mean 'train'"):
        __main__.main(["trian"])


@pytest.mark.slow
def test_arguments_are_checked_before_anything_heavy_is_imported():
    words = [sys.executable, "-c", IMPORTS]
    printed = subprocess.check_output(words, cwd=ROOT, text=True)
    assert printed == "\n"


def test_a_bare_name_is_a_config_of_the_package(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    by_path = config.load(str(ROOT / "configs/resnet20.py"))
    assert config.load("resnet20") == by_path
    with pytest.raises(UserError, match=r"no config file 'resnt20'.*'resnet20'"):
        config.load("resnt20")
    with pytest.raises(UserError, match="'nonsense'; there are finetune, resnet110, "):
        config.load("nonsense")


def test_every_name_of_other_programs_stands_for_a_field():
    assert {*hints.ELSEWHERE} <= {*config.flatten(config.load("smoke"))}


def test_print_config_shows_every_field_with_comment_and_value(capsys):
    arguments = ["--config", "smoke", "--config.train.epochs=7", "--print-config"]
    assert train.main(arguments) == 0
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    fields = config.flatten(config.load("smoke", ["--config.train.epochs=7"]))
    shown = [line for line in lines if line.startswith("config.")]
    assert sorted(shown) == sorted(f"config.{n} = {v!r}" for n, v in fields.items())
    assert "config.train.epochs = 7" in shown
    above = lines[lines.index("config.data.holdout = 0") - 1]
    assert above.startswith("# If not 0, this many training images validate and")
    assert above.endswith("chosen by a hash of the image.")


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["--epochs", "3"], "--config.train.epochs=3"),
        (["--epochs=3"], "--config.train.epochs=3"),
        (["--lr", "0.1"], "--config.optimizer.learning_rate=0.1"),
        (["--batch-size", "64"], "--config.train.batch_size=64"),
        (["--seed"], "--config.seed=..."),
        (["--resume"], "the same command resumes"),
        (["--optim.wd", "1"], "--config.optimizer.weight_decay=1"),
        (["--sched=cosine"], "--config.optimizer.schedule=cosine"),
        (["-b", "64"], "--config.train.batch_size=64"),
        (["lr=1"], "--config.optimizer.learning_rate=1"),
        (["--nonsense"], "--print-config lists them"),
        (["--config.optimizer.lr=1"], "did you mean 'optimizer.learning_rate'"),
        (["--config.optimizer=adamw"], "it is a group, set optimizer.name"),
        (["--config.model.name=resnet20"], "did you mean 'model.depth'"),
        (["--config.train.bs=64"], "did you mean 'train.batch_size'"),
        (["--config.dropout=0.1"], "'dropout'; train --print-config"),
        (["--config.workers=4"], "'workers': there are none"),
    ],
)
def test_habits_of_other_programs_are_answered_with_the_field(arguments, meant):
    with pytest.raises(UserError) as caught:
        train.main(["--config", "resnet56", *arguments])
    assert meant in str(caught.value)
