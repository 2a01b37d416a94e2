"""The app in a process of its own."""

import contextlib
import re
import subprocess
import sys

import pytest
from command_line import ROOT


def app(environment, *arguments):
    return subprocess.Popen(
        [sys.executable, str(ROOT / "serve" / "app.py"), "--port", "0", *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextlib.contextmanager
def _serving(environment, *arguments):
    process = app(environment, *arguments)
    try:
        line = process.stdout.readline()
        found = re.search(r"on (http://\S+)", line)
        assert found, line + process.stderr.read()
        yield process, found.group(1)
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="session")
def serving():
    """``with serving(environment, *arguments) as (process, address)``."""
    return _serving


@pytest.fixture(scope="session")
def refused():
    """Runs an app that is to refuse its arguments."""

    def run(environment, *arguments):
        process = app(environment, *arguments)
        output, errors = process.communicate(timeout=60)
        return subprocess.CompletedProcess([], process.returncode, output, errors)

    return run


@pytest.fixture(scope="session")
def address(tiny, finished):
    """Of the app that serves the finished run."""
    with _serving(tiny[1], "--model", str(finished)) as (_, address):
        yield address
