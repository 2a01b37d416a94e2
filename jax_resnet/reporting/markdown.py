"""Markdown tables and plain text in them."""

import re
from collections.abc import Sequence


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
    """Returns a text whose characters have no meaning in Markdown.

    A ``|`` is left to :func:`table`.
    """
    return re.sub(r"([\\`*<>\[\]&])", r"\\\1", text)
