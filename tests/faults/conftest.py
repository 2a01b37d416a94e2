"""Counts the faults that are injected into real runs, and what became of them."""

import datetime
import itertools
import os
import platform
import shlex
from pathlib import Path

import pytest
from command_line import interrupted

from jax_resnet.checkpoint.history import installed_versions


class Tally:
    """Counts one kind of fault; a fault that is not survived fails the test."""

    def __init__(self, fault, properties):
        self._counts = {"fault": fault, "injected": 0, "survived": 0}
        properties.append(("fault", self._counts))

    def injected(self, number=1):
        self._counts["injected"] += number

    def survived(self, number=1):
        self._counts["survived"] += number


@pytest.fixture(scope="session")
def stopped(tiny, tmp_path_factory):
    """A run that was stopped in its second epoch; to be copied."""
    return interrupted(tiny, tmp_path_factory.mktemp("stopped") / "run")


@pytest.fixture
def tally(request):
    """``tally("kill -9 while saving")`` counts faults of that name."""
    # The report of a test carries them, from whichever process it ran in.
    return lambda fault: Tally(fault, request.node.user_properties)


@pytest.fixture(scope="session")
def many(request):
    """``many(3, 100)`` is 3, or 100 with ``--many-faults``."""
    chosen = request.config.getoption("--many-faults")
    return lambda few, many: many if chosen else few


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    report = yield
    # What hostile input makes a command say is not always text to pytest-xdist.
    report.sections = [
        (name, text.encode(errors="backslashreplace").decode())
        for name, text in report.sections
    ]
    return report


def pytest_terminal_summary(terminalreporter, config):
    table = {}
    for report in itertools.chain.from_iterable(terminalreporter.stats.values()):
        if getattr(report, "when", None) == "call":
            for name, counts in report.user_properties:
                for row in (counts["fault"], "all") if name == "fault" else ():
                    injected, survived = table.pop(row, (0, 0))
                    injected += counts["injected"]
                    table[row] = injected, survived + counts["survived"]
    if not table or hasattr(config, "workerinput"):  # one process of pytest-xdist
        return
    lines = ["| fault | injected | survived | lost |", "| --- | ---: | ---: | ---: |"]
    for fault, (injected, survived) in table.items():
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
