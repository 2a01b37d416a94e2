"""Repeats tests of faults, and counts what became of them.

A test marked ``fault(name, few, many)`` injects one fault, and passes if nothing is
lost. It takes the ``number`` of the fault, which seeds what is random about it.
"""

import datetime
import itertools
import os
import platform
import random
import shlex
from pathlib import Path

import pytest
from command_line import interrupted

from jax_resnet.checkpoint.history import installed_versions


def pytest_generate_tests(metafunc):
    marker = metafunc.definition.get_closest_marker("fault")
    if marker and "number" in metafunc.fixturenames:
        _, few, many = marker.args
        chosen = many if metafunc.config.getoption("--many-faults") else few
        metafunc.parametrize("number", range(chosen))


@pytest.fixture
def generator(number):
    return random.Random(number)


@pytest.fixture(scope="session")
def stopped(tiny, tmp_path_factory):
    """A run that SIGTERM stopped in its second epoch: copy it to change it."""
    return interrupted(tiny, tmp_path_factory.mktemp("stopped") / "run")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    report = yield
    marker = item.get_closest_marker("fault")
    if marker and report.when == "call" and not report.skipped:
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        report.user_properties.append(("fault", marker.args[0].format(**parameters)))
    return report


def pytest_terminal_summary(terminalreporter, config):
    injected, survived = {}, {}
    for report in itertools.chain.from_iterable(terminalreporter.stats.values()):
        fault = dict(getattr(report, "user_properties", ())).get("fault")
        if fault and report.when == "call":
            injected[fault] = injected.get(fault, 0) + 1
            survived[fault] = survived.get(fault, 0) + report.passed
    if not injected:
        return
    injected["all"] = sum(injected.values())
    survived["all"] = sum(survived.values())
    lines = ["| fault | injected | survived | lost |", "| --- | ---: | ---: | ---: |"]
    for fault, count in injected.items():
        kept = survived[fault]
        lines.append(f"| {fault} | {count} | {kept} | {count - kept} |")
    table = "\n".join(lines)
    terminalreporter.write_sep("=", "faults")
    terminalreporter.write_line(table)
    if name := config.getoption("--faults-report"):
        versions = ", ".join(f"{n} {v}" for n, v in installed_versions().items())
        section = [
            f"`python -m pytest {shlex.join(config.invocation_params.args)}`",
            f"{datetime.date.today()}, {platform.machine()} with "
            f"{len(os.sched_getaffinity(0))} cores, {platform.system()}; {versions}",
            table,
        ]
        with Path(name).open("a") as file:
            file.write("\n\n".join(section) + "\n\n")
