"""Seconds that loading a data set takes: the first time, and from the cache.

    python benchmarks/loading.py

Each load is that of a fresh process, from the call of ``data.load`` on, with what it
imports. The cache is a temporary folder.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib import metadata
from multiprocessing import get_context

import tables

from jax_resnet import data
from jax_resnet.checkpoint.history import installed_versions
from jax_resnet.runtime.command_line import Parser, run
from jax_resnet.runtime.errors import UserError


def seconds_to_load(name: str, data_dir: str | None, cache_dir: str) -> float:
    """Loads a data set, and returns the seconds it took."""
    started = time.perf_counter()
    data.load(name, data_dir=data_dir, cache_dir=cache_dir)
    return time.perf_counter() - started


def measure(
    name: str, data_dir: str | None, rounds: int
) -> tuple[list[float], list[float]]:
    """Seconds of first loads, and of later ones: one of each in every round."""
    first: list[float] = []
    later: list[float] = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as cache_dir:
            for seconds in (first, later):
                with ProcessPoolExecutor(1, get_context("spawn")) as fresh:
                    load = fresh.submit(seconds_to_load, name, data_dir, cache_dir)
                    seconds.append(load.result())
    return first, later


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns 0."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    chosen = _parse(arguments)
    load = os.getloadavg()[0]
    # Prepares the data set if it is missing, which is not to be timed.
    known = data.describe(chosen.name, data_dir=chosen.data_dir)
    first, later = measure(chosen.name, chosen.data_dir, chosen.rounds)
    work = (
        f"Work: loading {chosen.name}, {known.n_train + known.n_eval:,} images",
        f"Median (least to greatest) of {chosen.rounds} rounds, each a first load and "
        "a later one, in fresh processes",
    )
    packages = ("tensorflow-datasets", "array-record", "pillow")
    versions = installed_versions()
    versions |= {package: metadata.version(package) for package in packages}
    print(tables.heading("loading.py", arguments, work, load=load, versions=versions))
    print()
    rows = (
        ("first: images decoded, cache written", tables.spread(first, 2)),
        ("later: cache read and verified", tables.spread(later, 2)),
    )
    print(tables.table(("load", "seconds"), rows))
    return 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = Parser(
        prog="python benchmarks/loading.py",
        description="Measures how long a data set takes to load, at first and later.",
    )
    parser.add_argument("--name", default="cifar100", help="default cifar100")
    parser.add_argument("--data-dir", help="default $TFDS_DATA_DIR")
    parser.add_argument("--rounds", type=int, default=5, help="default 5")
    chosen = parser.parse_args(arguments)
    if chosen.rounds < 1:
        raise UserError(f"--rounds must be at least 1, not {chosen.rounds}")
    return chosen


if __name__ == "__main__":
    run(main)
