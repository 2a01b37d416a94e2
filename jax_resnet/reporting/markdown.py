"""Markdown: tables, and text from data, configs and paths in it."""

import os
import re
from collections.abc import Sequence
from urllib.parse import quote

from jax_resnet.runtime.text import printable

# Characters with a meaning, among them $ (mathematics), names of emoji between colons,
# and underscores that are not within a word.
_MEANT = re.compile(r"[\\`*<>\[\]&$~#]|(?<![^\W_])_|_(?![^\W_])|:(?=[\w+-]+:)")


def table(
    header: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1
) -> str:
    """Returns a table whose first ``left`` columns are aligned to the left.

    The other columns are aligned to the right. A ``|`` in a cell is escaped.
    """
    rule = ["---" if column < left else "---:" for column in range(len(header))]
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, rule, *escaped))


def plain(text: str) -> str:
    """Returns a text as one line whose characters have no meaning in Markdown.

    A ``|`` is left to :func:`table`.
    """
    return _MEANT.sub(r"\\\g<0>", printable(text))


def code(text: str) -> str:
    """Returns a text as a code span of one line."""
    text = printable(text)
    longest = max(map(len, re.findall("`+", text)), default=0)
    # Backticks and spaces at the ends would be those of the span.
    space = " " if text.strip(" `") != text else ""
    return f"{'`' * (longest + 1)}{space}{text}{space}{'`' * (longest + 1)}"


def picture(name: str, path: str) -> str:
    """Returns a picture, whose path is relative to the page."""
    return f"![{name}]({quote(os.fsencode(path))})"
