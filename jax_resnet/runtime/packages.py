"""Optional packages, and the commands that install them."""

import importlib.util

from jax_resnet.runtime.errors import UserError


def install(extra: str) -> str:
    """Returns the shell command that installs an extra, in a clone and without one."""
    return f"pip install 'jax-resnet-cifar[{extra}]'"


def require(*packages: str, extra: str) -> None:
    """Checks that optional packages are installed.

    Raises UserError if one is missing; it names the extra to install.
    """
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise UserError(
                f"this needs {package}, which is not installed: {install(extra)}"
            )
