"""Repeats tests of faults, and counts the faults that a run survives.

A test marked ``fault(name, few, many)`` injects one fault, and passes if nothing is
lost. Its argument ``number``, which seeds the fault, takes ``few`` values, or ``many``
with ``--many-faults``.
"""

import datetime
import os
import platform
import random
import shlex
from collections import Counter
from pathlib import Path

import pytest
from command_line import interrupted

from jax_resnet.checkpoint.history import installed_versions


def pytest_generate_tests(metafunc):
    marker = metafunc.definition.get_closest_marker("fault")
    if marker and "number" in metafunc.fixturenames:
        _, few, many = marker.args
        count = many if metafunc.config.getoption("--many-faults") else few
        metafunc.parametrize("number", range(count))


@pytest.fixture
def generator(number):
    return random.Random(number)


@pytest.fixture(autouse=True)
def recorded(request, record_property):
    if marker := request.node.get_closest_marker("fault"):
        record_property("fault", marker.args[0])


@pytest.fixture(scope="session")
def stopped(tiny, tmp_path_factory):
    """A run that SIGTERM stopped in its second epoch: copy it to change it."""
    return interrupted(tiny, tmp_path_factory.mktemp("stopped") / "run")


def pytest_terminal_summary(terminalreporter, config):
    survived, lost = (
        Counter(
            dict(report.user_properties).get("fault", "no fault")
            for report in terminalreporter.getreports(outcome)
        )
        for outcome in ("passed", "failed")
    )
    injected = survived + lost
    del injected["no fault"]
    if not injected or "PYTEST_XDIST_WORKER" in os.environ:
        return
    table = "| fault | injected | survived | lost |\n| --- | ---: | ---: | ---: |"
    for name, count in injected.items():
        table += f"\n| {name} | {count} | {survived[name]} | {lost[name]} |"
    terminalreporter.write_sep("=", "faults")
    terminalreporter.write_line(table)
    if path := config.getoption("--faults-report"):
        arguments = shlex.join(config.invocation_params.args)
        versions = ", ".join(f"{n} {v}" for n, v in installed_versions().items())
        title = (
            f"`python -m pytest {arguments}`\n\n{datetime.date.today()}, "
            f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores; {versions}"
        )
        with Path(path).open("a") as file:
            file.write(f"{title}\n\n{table}\n\n")
