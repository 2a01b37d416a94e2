"""The command that compares recipes: ``python -m jax_resnet.search``."""

import sys
from collections.abc import Sequence
from pathlib import Path

from jax_resnet import config
from jax_resnet.runtime.command_line import Parser, parse_seeds, run
from jax_resnet.runtime.errors import UserError
from jax_resnet.runtime.lock import workdir_lock
from jax_resnet.runtime.paths import path_argument
from jax_resnet.runtime.signals import Interrupt
from jax_resnet.search.recipes import BaseConfig, parse_rungs, read_recipes

HOLDOUT = 5000  # images, unless the command line or the config chooses


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options, overrides = _parser().parse_known_args(arguments)
    settings = config.load(options.config, overrides)
    if options.holdout is not None and options.holdout < 1:
        raise UserError(f"--holdout must be at least 1, not {options.holdout}")
    if not 0 < options.keep <= 1:
        raise UserError(f"--keep must be above 0 and at most 1, not {options.keep:g}")
    holdout = options.holdout or settings.data.holdout or HOLDOUT
    base = BaseConfig(options.config, (*overrides, f"--config.data.holdout={holdout}"))
    recipes = read_recipes(options.recipes)
    rungs = parse_rungs(
        str(settings.train.epochs) if options.epochs is None else options.epochs
    )
    seeds = parse_seeds(options.seeds)
    with Interrupt(options.max_seconds) as interrupt, workdir_lock(options.workdir):
        # It takes seconds, so the arguments are checked before.
        from jax_resnet.search.halving import Search

        search = Search(base, recipes, options.workdir, seeds, interrupt)
        return 0 if search.run(rungs, options.keep) else interrupt.exit_code


def _parser() -> Parser:
    parser = Parser(
        prog="python -m jax_resnet.search",
        description="Ranks recipes on images held out of training, by successive "
        "halving. Continues the unfinished search of a workdir.",
        epilog="Fields of the base config are set by name, as in "
        "--config.train.batch_size=256",
    )
    parser.add_argument("--config", required=True, help="the base config")
    parser.add_argument(
        "--recipes",
        required=True,
        type=path_argument,
        metavar="FILE.toml",
        help="a table for each recipe: the fields that it sets, such as "
        "optimizer.warmup_epochs = 5.0, and why",
    )
    parser.add_argument("--workdir", type=path_argument, default=Path("runs/search"))
    parser.add_argument(
        "--seeds", default="0,1,2", help="of each recipe (default: 0,1,2)"
    )
    parser.add_argument(
        "--epochs",
        help="epochs of each rung, such as 15,50,150 (default: those of the config)",
    )
    parser.add_argument(
        "--keep",
        type=float,
        default=0.5,
        help="fraction of the recipes to promote to the next rung (default: 0.5)",
    )
    parser.add_argument(
        "--holdout",
        type=int,
        help="number of training images to hold out for the ranking (default: that of "
        f"the config, or {HOLDOUT})",
    )
    parser.add_argument(
        "--max-seconds",
        type=float,
        help="save and exit with code 75 before this much time has passed",
    )
    return parser


if __name__ == "__main__":
    run(main)
