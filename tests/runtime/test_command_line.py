import io
import os
import re
import sys

import jax
import pytest

from jax_resnet.runtime.command_line import Parser, parse_seeds, run
from jax_resnet.runtime.errors import UserError


@pytest.fixture
def outcome(monkeypatch, capsys):
    """Runs a main function; returns its exit code, and what it printed as errors."""
    monkeypatch.setattr(os, "_exit", sys.exit)

    def outcome(main):
        with pytest.raises(SystemExit) as caught:
            run(main)
        return caught.value.code, capsys.readouterr().err

    return outcome


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (UserError("two\nlines"), 2, "error: two\\nlines\n"),
        (PermissionError(13, "Permission denied", "x"), 2, "error: [Errno 13] Permis"),
        (KeyboardInterrupt(), 130, ""),
        (BrokenPipeError(), 1, ""),
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: ..."), 2, "error: out of me"),
    ],
)
def test_errors_are_one_line_and_an_exit_code(outcome, error, code, message):
    def main():
        raise error

    found, text = outcome(main)
    assert found == code
    assert text.startswith(message)
    assert text.count("\n") == bool(message)


@pytest.mark.parametrize("error", [ValueError("x"), jax.errors.JaxRuntimeError("x")])
def test_mistakes_of_the_program_keep_their_traceback(error):
    def main():
        raise error

    with pytest.raises(type(error)):
        run(main)


def test_a_variable_that_jax_refuses_is_one_line(outcome, monkeypatch):
    monkeypatch.setenv("JAX_ENABLE_X64", "banana")
    monkeypatch.delitem(sys.modules, "jax")  # as after an import that failed

    def main():
        raise ValueError("invalid truth value 'banana'")

    message = "error: JAX refuses the environment's .*JAX_ENABLE_X64.*: invalid truth"
    code, text = outcome(main)
    assert (code, text.count("\n")) == (2, 1)
    assert re.match(message, text)


def test_output_is_escaped_or_goes_nowhere(outcome, monkeypatch):
    ascii_only = io.TextIOWrapper(io.BytesIO(), "ascii")
    for stream in (ascii_only, None):
        monkeypatch.setattr(sys, "stdout", stream)
        assert outcome(lambda: print("ü 日") or 0)[0] == 0
    assert ascii_only.buffer.getvalue() == b"\\xfc \\u65e5\n"


def test_wrong_arguments_are_one_line(outcome):
    code, text = outcome(lambda: Parser(prog="prog").parse_args(["--nonsense"]))
    assert (code, text.count("\n")) == (2, 1)
    assert text.endswith("see prog --help\n")


def test_lists_of_seeds():
    assert parse_seeds("0,1, 2") == [0, 1, 2]
    for text in ("1,1", "-1", "a", str(2**32)):
        with pytest.raises(UserError, match="--seeds must be"):
            parse_seeds(text)
