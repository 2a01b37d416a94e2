"""Prints a config with the comments of the reference config."""

import re

from ml_collections import ConfigDict

from jax_resnet.config.fields import flatten
from jax_resnet.config.functions import as_text
from jax_resnet.runtime.resources import own_folder

_ASSIGNMENT = re.compile(r"\s*config\.(?P<name>[\w.]+) = [^#]*(?:# (?P<comment>.*))?")
_COMMENT = re.compile(r"\s*# (.*)")


def render(config: ConfigDict) -> str:
    """Returns a line for every field, with its value, below its comment.

    The fields have the order of the reference config, with others at the end of their
    group.
    """
    comments = _comments()
    order = {name: index for index, name in enumerate(comments)}

    def place(name: str) -> tuple[int, int]:
        last = len(order)
        return order.get(name.partition(".")[0], last), order.get(name, last)

    lines: list[str] = []
    group = ""
    fields = flatten(config)
    for name in sorted(fields, key=place):
        if "." in name and (outer := name.partition(".")[0]) != group:
            group = outer
            lines.append("")
            lines += [f"# {comments[group]}"] if comments.get(group) else []
        if comment := comments.get(name):
            lines.append(f"# {comment}")
        lines.append(f"config.{name} = {_shown(fields[name])!r}")
    return "\n".join(lines) + "\n"


def _shown(value: object) -> object:
    if isinstance(value, tuple):
        return tuple(map(_shown, value))
    return as_text(value) if callable(value) else value


def _comments() -> dict[str, str]:
    """Returns the comment of each field and group in ``resnet56.py``."""
    found: dict[str, str] = {}
    above: list[str] = []
    for line in (own_folder("configs") / "resnet56.py").read_text("utf-8").splitlines():
        if match := _COMMENT.fullmatch(line):
            above.append(match[1])
            continue
        if match := _ASSIGNMENT.match(line):
            found[match["name"]] = " ".join([*above, match["comment"] or ""]).strip()
        above = []
    return found
