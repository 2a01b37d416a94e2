"""Paths as people write them: every text that names a folder or file passes here."""

import os
from argparse import ArgumentTypeError
from pathlib import Path

from jax_resnet.runtime.errors import UserError


def user_path(text: str | os.PathLike[str]) -> Path:
    """Returns the path that a text means, with the home folder in place of ``~``.

    Any name that a file system takes will do. Raises UserError for ``~`` where no home
    is known, and for a URL, of which :class:`Path` would make local folders.
    """
    given = os.fspath(text)
    if not given:
        raise UserError("a path is empty: name a folder or a file")
    if "://" in given:
        raise UserError(f"{given!r} is a URL: give a path of this machine")
    if "\0" in given:
        raise UserError(f"{given!r} has a zero byte, which no path has: leave it out")
    # Unlike Path.expanduser, it keeps the dot of ./~ until the home is looked for.
    expanded = os.path.expanduser(given)  # noqa: PTH111
    if expanded.startswith("~"):
        raise UserError(
            f"no home folder is known for {given!r}: set HOME, or give './{given}' if "
            "it is the name of a folder here"
        )
    path = Path(expanded)
    # Path drops the dot of ./~, so a whole path keeps it from being expanded again.
    return path.absolute() if str(path).startswith("~") else path


def path_argument(text: str) -> Path:
    """Returns :func:`user_path` of an argument, as the type of a command's option."""
    try:
        return user_path(text)
    except UserError as error:  # of which argparse would show nothing
        raise ArgumentTypeError(str(error)) from error


def cache_folder() -> Path:
    """Returns ``$JAX_RESNET_CACHE``, or ``jax_resnet`` in the user's cache folder.

    Raises UserError where neither is known, nor a home folder.
    """
    if folder := os.environ.get("JAX_RESNET_CACHE"):
        return user_path(folder)
    return user_path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "jax_resnet"
