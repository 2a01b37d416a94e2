"""Lists and runs the commands: ``python -m jax_resnet``, or ``jax-resnet``."""

import importlib
import sys
from collections.abc import Sequence
from typing import NoReturn

from jax_resnet import __version__
from jax_resnet.runtime.command_line import run
from jax_resnet.runtime.errors import UserError, nearest
from jax_resnet.runtime.resources import own_folder

# The module of each command, and what it does.
COMMANDS = {
    "train": ("jax_resnet.train", "train a model, or resume its run"),
    "evaluate": ("jax_resnet.evaluate", "measure a model, or compare several"),
    "predict": ("jax_resnet.predict", "classify pictures"),
    "search": ("jax_resnet.search.__main__", "compare recipes on held-out images"),
    "export": ("jax_resnet.export", "write a model in another format"),
    "serve": ("app", "serve a model as a page and an API"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command that the first argument names; returns its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage())
        return 0
    if arguments[0] == "--version":
        print(f"jax_resnet {__version__}")
        return 0
    name, *others = arguments
    if name not in COMMANDS:
        hint = nearest(name, COMMANDS) or f"; there are {', '.join(COMMANDS)}"
        raise UserError(f"no command {name!r}{hint}")
    if name == "serve":
        sys.path.insert(0, str(own_folder("serve")))
    return importlib.import_module(COMMANDS[name][0]).main(others)


def _usage() -> str:
    rows = (f"  {name:<10}{does}" for name, (_, does) in COMMANDS.items())
    return "\n".join(
        [
            "usage: jax-resnet COMMAND ...",
            "",
            *rows,
            "",
            "jax-resnet COMMAND --help explains its options. The first steps:",
            "",
            "  jax-resnet train --config smoke",
            "  jax-resnet evaluate --workdir runs/smoke",
        ]
    )


def script() -> NoReturn:
    """Runs the console script."""
    run(main)


if __name__ == "__main__":
    script()
