"""Counts the faults that are injected into real runs, and what became of them."""

import datetime
import os
import platform
import shlex
from pathlib import Path

import pytest
from command_line import interrupted

from jax_resnet.history import installed_versions

_counts: dict[str, list[int]] = {}


class Tally:
    """Counts one kind of fault; a fault that is not survived fails the test."""

    def __init__(self, fault):
        self._counts = _counts.setdefault(fault, [0, 0])

    def injected(self, number=1):
        self._counts[0] += number

    def survived(self, number=1):
        self._counts[1] += number


@pytest.fixture(scope="session")
def stopped(tiny, tmp_path_factory):
    """A run that was stopped in its second epoch; to be copied."""
    return interrupted(tiny, tmp_path_factory.mktemp("stopped") / "run")


@pytest.fixture
def tally():
    """``tally("kill -9 while saving")`` counts faults of that name."""
    return Tally


@pytest.fixture(scope="session")
def many(request):
    """``many(3, 100)`` is 3, or 100 with ``--many-faults``."""
    chosen = request.config.getoption("--many-faults")
    return lambda few, many: many if chosen else few


def pytest_terminal_summary(terminalreporter, config):
    if not _counts:
        return
    lines = ["| fault | injected | survived | lost |", "| --- | ---: | ---: | ---: |"]
    totals = [sum(counts) for counts in zip(*_counts.values(), strict=True)]
    rows = [*_counts.items(), ("all", totals)]
    for fault, (injected, survived) in rows:
        lines.append(f"| {fault} | {injected} | {survived} | {injected - survived} |")
    terminalreporter.write_sep("=", "faults")
    terminalreporter.write_line("\n".join(lines))
    if name := config.getoption("--faults-report"):
        path = Path(name)
        versions = ", ".join(f"{n} {v}" for n, v in installed_versions().items())
        title = [
            "# Faults injected into real runs",
            "Survived: all was seen that `tests/faults` demands after such a fault.",
        ]
        section = [
            f"`python -m pytest {shlex.join(config.invocation_params.args)}`",
            f"{datetime.date.today()}, {platform.machine()} with "
            f"{len(os.sched_getaffinity(0))} cores, {platform.system()}; {versions}",
            "\n".join(lines),
        ]
        with path.open("a") as file:
            file.write(
                "\n\n".join([*([] if file.tell() else title), *section]) + "\n\n"
            )
