"""Trains a model: ``python -m jax_resnet.train --config resnet56``."""

import argparse
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from jax_resnet import config
from jax_resnet.runtime.command_line import Parser, parse_seeds, run
from jax_resnet.runtime.errors import UserError
from jax_resnet.runtime.paths import path_argument
from jax_resnet.runtime.signals import Interrupt

_ADDRESS = re.compile(r"([\w.-]+|\[[\da-f:.]+\]):\d{1,5}", re.I)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options, overrides = _parser().parse_known_args(arguments)
    address = _check_processes(options)
    seeds = None if options.seeds is None else parse_seeds(options.seeds)
    settings = config.load(options.config, overrides)
    if options.print_config:
        print(config.render(settings), end="")
        return 0
    name = Path(options.config).stem
    # Without the workdir: the record lies in it, and stays true where it is moved.
    command = shlex.join(
        ["python", "-m", "jax_resnet.train", "--config", options.config, *overrides]
    )
    with Interrupt(options.max_seconds) as interrupt:
        # These take seconds, so the arguments are checked before.
        from jax_resnet.distributed.processes import Processes, join
        from jax_resnet.training.run import train
        from jax_resnet.training.seeds import train_seeds
        from jax_resnet.training.task import Task

        workdir = options.workdir or Path("runs") / name
        task = Task(settings, workdir, name, command, options.accept_changes)
        if seeds is not None:
            results = train_seeds(task, seeds, interrupt)
            complete = all(r is not None and r.stopped_by is None for r in results)
            return 0 if complete else interrupt.exit_code
        together = Processes()
        if options.distributed:
            together = join(settings.train.device, *address)
        try:
            result = train(task, together, interrupt)
        finally:
            together.exit_last()
        return 0 if result.stopped_by is None else interrupt.exit_code


def _check_processes(
    options: argparse.Namespace,
) -> tuple[str | None, int | None, int | None]:
    """Returns the coordinator, the number of processes and the index of this one."""
    address = options.coordinator, options.num_processes, options.process_id
    if len({part is None for part in address}) > 1:
        raise UserError("--coordinator, --num-processes and --process-id go together")
    # JAX would try for minutes to reach what is no address, and then abort.
    if options.coordinator and (
        not _ADDRESS.fullmatch(options.coordinator)
        or int(options.coordinator.rpartition(":")[2]) > 65535
    ):
        raise UserError(
            "--coordinator must be HOST:PORT such as host0:1234, not "
            f"{options.coordinator!r}"
        )
    options.distributed |= options.coordinator is not None
    if options.seeds is not None and options.distributed:
        raise UserError("--seeds is for one process: start a run for each seed")
    return address


def _parser() -> Parser:
    parser = Parser(
        prog="python -m jax_resnet.train",
        description="Trains a model, or resumes the unfinished run in the workdir.",
        epilog="Fields of the config are set by name, as in --config.train.epochs=30; "
        "--print-config lists them",
    )
    parser.add_argument(
        "--config",
        required=True,
        help="a config file, or the name of one that comes with jax_resnet: "
        + ", ".join(config.packaged_names()),
    )
    parser.add_argument(
        "--workdir",
        type=path_argument,
        help="run directory; default runs/NAME_OF_CONFIG",
    )
    parser.add_argument(
        "--print-config",
        action="store_true",
        help="print every field with its comment and its value, and do nothing else",
    )
    parser.add_argument(
        "--max-seconds",
        type=float,
        help="save and stop in time to have ended after so many seconds; exit code 75",
    )
    parser.add_argument(
        "--accept-changes",
        action="store_true",
        help="go on with a run whose config has changed, where its state allows it",
    )
    parser.add_argument(
        "--seeds",
        help="such as 0,1,2: a run of each, in WORKDIR/seed-N, each on a device of its "
        "own, or one after the other; and a table of them",
    )
    parser.add_argument(
        "--distributed",
        action="store_true",
        help="one of several processes, started by SLURM, Open MPI or Kubernetes",
    )
    parser.add_argument(
        "--coordinator",
        metavar="HOST:PORT",
        help="one of several processes: the address of the first",
    )
    for name, symbol, meaning in (
        ("--num-processes", "N", "how many"),
        ("--process-id", "I", "which one this is, from 0 on"),
    ):
        help_text = f"with --coordinator: {meaning}"
        parser.add_argument(name, type=int, metavar=symbol, help=help_text)
    return parser


if __name__ == "__main__":
    run(main)
