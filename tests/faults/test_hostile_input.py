"""Overrides, config files and command lines that are meant to break things."""

import itertools
import json
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from command_line import assert_one_line, run
from hypothesis import given
from hypothesis import strategies as st
from refusals import BYTES, CUTS, SCALARS, examples, refused, spliced

from jax_resnet import config
from jax_resnet.training.resume import resume_point

REFERENCE = "configs/resnet56.py"
FIELDS = sorted(config.flatten(config.load(REFERENCE)))
LITERALS = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
VALUES = st.one_of(
    LITERALS.map(repr),
    st.text(max_size=20),
    st.sampled_from(
        [
            *("", "=", "'", '"', "==1", "''", "None", "nan", "-inf", "1e999", "0x10"),
            *("1_000", "٣", "(" * 500, "[" * 500 + "]" * 500, "9" * 5000),
            *("-" * 5000 + "1", "(" * 5000 + ")" * 5000, "not " * 5000 + "1"),
            *("__import__('os').getpid()", "()", "(1,", "'normalize',", "1 if 1else 2"),
            *(r"'\d'", "1is 1", "f'{1}'", "{1: 2}", "{**{}}", "lambda: 0", "\\", "\n"),
            *("({1},)", "(b'x',)", "(1j, 2)", "(...,)", "(1, 2)", "((1,),)", "(nan,)"),
        ]
    ),
)
NAMES = st.one_of(
    st.sampled_from(FIELDS),
    st.sampled_from(["", ".", "model", "model.", ".seed", "seed.seed", "augment.mine"]),
    st.builds(
        lambda name, at, text: name[: at % len(name)] + text + name[at % len(name) :],
        st.sampled_from(FIELDS),
        st.integers(0, 99),
        st.text(max_size=3),
    ),
    st.text(max_size=10),
)
DASHES = st.sampled_from(["--", "-", "---", "", "--no", "-no", "—"])
ARGUMENTS = st.one_of(
    st.builds("{}config.{}={}".format, DASHES, NAMES, VALUES).map(lambda a: [a]),
    st.builds(lambda d, n, v: [f"{d}config.{n}", v], DASHES, NAMES, VALUES),
    st.builds(lambda d, n: [f"{d}config.{n}"], DASHES, NAMES),
    st.sampled_from(
        [
            *("--flagfile=/dev/null", "--flagfile", "--undefok=seed", "--undefok"),
            *("--help", "--helpfull", "--helpshort", "--helpxml", "-?", "-h", "--"),
            *("--config", "--config=x", "--config.", "--config=", "--noconfig", "-"),
            *("--only_check_args", "--run_with_pdb", "--verbosity=1", "--seed=1", "="),
            *("--flagfile=\n", "-flagfile=/dev/zero", "---flagfile=x", "@x", ""),
        ]
    ).map(lambda a: [a]),
    st.text(max_size=20).map(lambda a: [a]),
)


def test_overrides(many, tally):
    number = many(300, 10_000)
    faults = tally("hostile overrides of a config")

    @examples(number)
    @given(st.lists(ARGUMENTS, min_size=1, max_size=4))
    def check(groups):
        faults.injected()
        loaded = refused(config.load, REFERENCE, [*itertools.chain(*groups)])
        if loaded is not None:
            config.check(config.flatten(loaded))
            json.dumps(config.to_json(loaded))
        faults.survived()

    check()


def test_bytes_in_place_of_the_config(finished, many, tally, tmp_path):
    pristine = (finished / "config.json").read_bytes()
    faults = tally("random bytes in config.json")

    @examples(many(200, 2000))
    @given(st.binary() | BYTES | CUTS)
    def check(content):
        if isinstance(content, list):
            content = spliced(pristine, content)
        faults.injected()
        (tmp_path / "config.json").write_bytes(content)
        refused(resume_point, tmp_path, json.loads(pristine))
        faults.survived()

    check()


# Files in place of a config.

SOURCES = {
    "empty": b"",
    "bytes": bytes(range(256)),
    "an image": b"\x89PNG\r\n\x1a\n",
    "not UTF-8": b"name = '\xff'\n",
    "a syntax error": b"def get_config(:\n",
    "nested too deeply": b"x = " + b"(" * 10_000,
    "an endless recursion": b"def get_config(): return get_config()\n",
    "an error of two lines": b"raise RuntimeError('a\\nb')\n",
    "an exit": b"import sys; sys.exit(0)\n",
    "a config of None": b"def get_config(): pass\n",
    "a config that is a number": b"get_config = 3\n",
}
PLACES = {
    "a folder": lambda path: path.mkdir(),
    "a pipe": os.mkfifo,
    "a device": lambda path: path.symlink_to("/dev/null"),
    "a link to itself": lambda path: path.symlink_to(path),
    "a link to nothing": lambda path: path.symlink_to("nothing"),
}


def hostile_configs(folder):
    for number, (name, make) in enumerate((SOURCES | PLACES).items()):
        path = folder / f"config{number}.py"
        make(path) if callable(make) else path.write_bytes(make)
        yield name, path


def test_files_that_are_no_configs(tmp_path, tally):
    for _, path in hostile_configs(tmp_path):
        faults = tally("a config that is no config")
        faults.injected()
        assert refused(config.load, str(path)) is None
        faults.survived()


def test_a_config_that_may_not_be_read(tally):
    faults = tally("a config that is no config")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.py"
        path.touch(mode=0)
        Path(folder).chmod(0o755)
        faults.injected()
        user = os.geteuid()
        try:
            os.seteuid(user or 65534)  # the superuser may read everything
            assert refused(config.load, str(path)) is None
        finally:
            os.seteuid(user)
        faults.survived()


def test_a_config_may_print(tmp_path, capsys):
    path = tmp_path / "printing.py"
    folder = str(Path(REFERENCE).parent.absolute())
    path.write_text(
        f"import sys; sys.path.append({folder!r})\n"
        "from resnet56 import get_config\nprint('hello')\n"
    )
    assert config.load(str(path)).seed == 0
    assert capsys.readouterr().out == "hello\n"


# The real commands.

TRAIN = [
    ["--config.model.depth=" + "[" * 5000],
    ["--config.augment.transforms=" + "-" * 5000 + "1"],
    ["--config.augment.transforms=({1},)"],
    ["--config.seed=" + "9" * 5000],
    ["--config.data.dir=a\nb"],
    ["--config.a.b"],
    ["--flagfile=/etc/passwd"],
    ["--helpfull"],
    ["--max-seconds=nan"],
    ["--workdir=" + "x" * 5000],
]
EVALUATE = [
    ["--checkpoint=../24"],
    ["--checkpoint=24\n"],
    ["--batch-size=" + "9" * 5000],
    ["--split=train[:10%]+__import__('os')"],
    ["--split="],
]


def test_command_lines(tiny, finished, tmp_path, many, tally):
    lines = [("train", tmp_path / "run", arguments) for arguments in TRAIN]
    lines += [("evaluate", finished, arguments) for arguments in EVALUATE]
    lines += [
        ("train", tmp_path / "run", ["--config", str(path)])
        for _, path in hostile_configs(tmp_path)
    ]
    lines = lines[:: many(6, 1)]
    faults = tally("a hostile command line, by the real command")
    faults.injected(len(lines))

    def attempt(line):
        module, workdir, arguments = line
        return run(tiny, workdir, *arguments, module=module)

    with ThreadPoolExecutor(2) as threads:
        for result in threads.map(attempt, lines):
            assert_one_line(result, "")
            faults.survived()
