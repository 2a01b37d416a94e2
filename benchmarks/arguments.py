"""Arguments and their checks that the benchmarks of training share."""

import argparse
import os
from collections.abc import Collection
from pathlib import Path

import jax
from variant import TRAIN_IMAGES, Options

from jax_resnet.runtime.command_line import Parser
from jax_resnet.runtime.errors import UserError, nearest


def training_parser(
    program: str,
    description: str,
    *,
    dtype: str,
    steps: str,
    at_once: int = 0,
    epilog: str = "",
) -> Parser:
    """A parser with the work and the rounds.

    Args:
        program: the file's name.
        description: for people.
        dtype: the default.
        steps: the default for people, None in what is parsed.
        at_once: the default of how many variants compile beside each other; 0 where
            there are no variants, and no rounds.
        epilog: for people.
    """
    parser = Parser(
        prog=f"python benchmarks/{program}", description=description, epilog=epilog
    )
    parser.add_argument("--device", choices=("auto", "cpu", "gpu"), default="auto")
    parser.add_argument("--depth", type=int, default=56, help="6n+2; default 56")
    parser.add_argument("--batch-size", type=int, default=128, help="default 128")
    dtypes = ("float32", "bfloat16")
    parser.add_argument(
        "--dtype", choices=dtypes, default=dtype, help=f"default {dtype}"
    )
    parser.add_argument("--augment", choices=("none", "recipe"), default="recipe")
    of = "of a round; " if at_once else ""
    parser.add_argument("--steps", type=int, help=f"{of}default {steps}")
    if at_once:
        parser.add_argument("--rounds", type=int, default=5, help="default 5")
        parser.add_argument(
            "--at-once",
            type=int,
            default=at_once,
            help=f"variants that compile beside each other; default {at_once}",
        )
        parser.add_argument(
            "--patience",
            type=float,
            help="seconds that compilation, or a round, of a variant may take at most",
        )
    add_output(parser)
    return parser


def add_output(parser: Parser) -> None:
    """Adds the option that names a file for the report."""
    parser.add_argument("--output", metavar="FILE.md", help="write the report, too")


def check_training(chosen: argparse.Namespace) -> None:
    """Refuses what is out of range.

    Raises:
        UserError: for the first such argument.
    """
    if chosen.depth < 8 or (chosen.depth - 2) % 6:
        raise UserError(f"--depth must be 6n+2 with n >= 1, not {chosen.depth}")
    if not 1 <= chosen.batch_size <= TRAIN_IMAGES:
        raise UserError(
            f"--batch-size must be 1 to {TRAIN_IMAGES}, not {chosen.batch_size}"
        )
    for name in ("steps", "rounds", "at_once", "patience"):
        value = getattr(chosen, name, None)
        if value is not None and not value >= 1:
            option = name.replace("_", "-")
            raise UserError(f"--{option} must be at least 1, not {value:g}")
    check_output(chosen)


def check_output(chosen: argparse.Namespace) -> None:
    """Refuses a file for the report in no folder; raises :class:`UserError`."""
    if chosen.output and not Path(chosen.output).resolve().parent.is_dir():
        raise UserError(f"--output: there is no folder for {chosen.output!r}")


def check_name(kind: str, name: str, known: Collection[str]) -> None:
    """Refuses a name that is not known, with the nearest; raises :class:`UserError`."""
    if name not in known:
        hint = nearest(name, known) or ": " + ", ".join(known)
        raise UserError(f"there is no {kind} {name!r}{hint}")


def options(chosen: argparse.Namespace) -> Options:
    """The work, on a kind of device that is there.

    Raises:
        UserError: if there is none of the kind asked for.
    """
    return Options(
        device=platform(chosen.device),
        depth=chosen.depth,
        batch_size=chosen.batch_size,
        dtype=chosen.dtype,
        augment=chosen.augment,
    )


def platform(kind: str) -> str:
    """``"cpu"`` or ``"gpu"``, by what is there for a kind that may be ``"auto"``.

    Raises:
        UserError: if there is none.
    """
    if kind == "cpu":
        return "cpu"
    # Else this process would take most of the GPU's memory.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    try:
        found = jax.devices("gpu" if kind == "gpu" else None)[0].platform
    except RuntimeError:
        raise UserError(
            f"--device {kind}: JAX finds no such device; check nvidia-smi, or use "
            "--device cpu"
        ) from None
    return "cpu" if found == "cpu" else "gpu"
