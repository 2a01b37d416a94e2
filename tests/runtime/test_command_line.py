import os
import subprocess
import sys

import jax
import pytest

from jax_resnet.runtime.command_line import Parser, run
from jax_resnet.runtime.errors import UserError


@pytest.fixture(autouse=True)
def stay(monkeypatch):
    """The end of a command is an exception, which leaves this process alone."""
    monkeypatch.setattr(os, "_exit", sys.exit)


def outcome(main, capsys):
    with pytest.raises(SystemExit) as caught:
        run(main)
    return caught.value.code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (UserError("two\nlines"), 2, "error: two lines\n"),
        (PermissionError(13, "Permission denied", "x"), 2, "error: [Errno 13] Permis"),
        (KeyboardInterrupt(), 130, ""),
        (BrokenPipeError(), 1, ""),
        (MemoryError(), 2, "error: out of memory"),
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: ..."), 2, "error: out of me"),
    ],
)
def test_errors_are_one_line_and_an_exit_code(capsys, error, code, message):
    def main():
        raise error

    found, text = outcome(main, capsys)
    assert found == code
    assert text.startswith(message)
    assert text.count("\n") == bool(message)


@pytest.mark.parametrize("error", [ValueError("x"), jax.errors.JaxRuntimeError("x")])
def test_mistakes_of_the_program_keep_their_traceback(error):
    def main():
        raise error

    with pytest.raises(type(error)):
        run(main)


def test_arguments_that_are_not_text(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train", "--workdir=\udcff"])
    assert outcome(lambda: 0, capsys) == (
        2,
        "error: an argument is not UTF-8, and what a run writes is\n",
    )


def test_wrong_arguments_are_one_line(capsys):
    parser = Parser(prog="prog")
    code, text = outcome(lambda: parser.parse_args(["--nonsense"]), capsys)
    assert (code, text.count("\n")) == (2, 1)
    assert text.endswith("see prog --help\n")


WARNS = """
import warnings
from jax_resnet.command import run

def main():
    warnings.warn("slow")
    print("done")
    return 0

run(main)
"""


@pytest.mark.parametrize(
    ("redirection", "code", "text"),
    [
        (">/dev/null", 0, "warning: slow\n"),
        (">/dev/full", 2, "warning: slow\nerror: [Errno 28] No space left on device\n"),
        (">&-", 0, "warning: slow\n"),
        (">&- 2>&-", 0, ""),
    ],
)
def test_streams_that_are_closed_or_full(redirection, code, text):
    found = subprocess.run(
        ["sh", "-c", f'"$0" -c "$1" {redirection}', sys.executable, WARNS],
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    assert (found.returncode, found.stderr) == (code, text)
