"""Overrides, config files and command lines that are meant to break things."""

import json
import os

import pytest
from command_line import assert_one_line, run_here
from damages import GARBAGE, refused, splice

from jax_resnet import config
from jax_resnet.training.resume import resume_point

NAMES = [
    *config.FIELDS,
    *("", ".", "model", "model.", ".seed", "seed.seed", "augment.mine", "séed", "a\nb"),
]
VALUES = [
    *("", "=", "'", "''", "None", "nan", "-inf", "1e999", "0x10", "٣", "-1", "1.5"),
    *("(" * 500, "9" * 5000, "-" * 5000 + "1", "(" * 5000 + ")" * 5000, "x" * 10_000),
    *("__import__('os').getpid()", "()", "(1,", r"'\d'", "1is 1", "\n", "lambda: 0"),
    *("{**{}}", "({1},)", "(b'x',)", "(1j, 2)", "(...,)", "(nan,)", "\ud800"),
]
OTHERS = [
    *("--flagfile=/dev/null", "--help", "-?", "--", "", "--config", "--config.", "-"),
    *("--noconfig", "--only_check_args", "--run_with_pdb", "--seed=1", "@x", "\0", "é"),
]


def hostile_argument(generator):
    if generator.random() < 0.1:
        return generator.choice(OTHERS)
    dashes = generator.choice(["--", "--", "--", "-", "---", "", "--no", "—"])
    value = generator.choice(["=" + generator.choice(VALUES)] * 9 + [""])
    return f"{dashes}config.{generator.choice(NAMES)}{value}"


@pytest.mark.fault("hostile overrides of a config", 20, 200)
def test_overrides(generator):
    arguments = [hostile_argument(generator) for _ in range(generator.randint(1, 3))]
    loaded = refused(config.load, "configs/resnet56.py", arguments)
    if loaded is not None:
        config.check(config.flatten(loaded))
        json.dumps(config.to_json(loaded))


@pytest.mark.fault("random bytes in config.json", 10, 100)
def test_bytes_in_place_of_the_config(tiny, tmp_path, number, generator):
    settings = config.to_json(config.load(str(tiny)))
    spliced = splice(json.dumps(settings, indent=2).encode(), generator)
    content = GARBAGE[number] if number < len(GARBAGE) else spliced
    (tmp_path / "config.json").write_bytes(content)
    refused(resume_point, tmp_path, settings)


CONFIGS = {
    "empty": lambda path: path.touch(),
    "bytes": lambda path: path.write_bytes(bytes(range(256))),
    "nested": lambda path: path.write_text("x = " + "(" * 10_000),
    "endless": lambda path: path.write_text("def get_config(): return get_config()\n"),
    "exit": lambda path: path.write_text("import sys; sys.exit(0)\n"),
    "pipe": os.mkfifo,
    "loop": lambda path: path.symlink_to(path),
}


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.fault("a config file that is no config", 1, 1)
def test_files_that_are_no_configs(tmp_path, kind):
    CONFIGS[kind](tmp_path / "config.py")
    assert refused(config.load, str(tmp_path / "config.py")) is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "argument"),
    [
        ("train", "--config.model.depth=" + "[" * 5000),
        ("train", "--config.data.dir=a\nb"),
        ("train", "--flagfile=/etc/passwd"),
        ("train", "--workdir=" + "x" * 5000),
        ("evaluate", "--checkpoint=../24"),
        ("evaluate", "--batch-size=" + "9" * 5000),
        ("evaluate", "--split=train[:10%]+__import__('os')"),
    ],
    ids=range(7),
)
@pytest.mark.fault("a hostile command line", 1, 1)
def test_command_lines(tiny, finished, tmp_path, module, argument):
    workdir = finished if module == "evaluate" else tmp_path / "run"
    assert_one_line(run_here(tiny, workdir, argument, module=module), "")
