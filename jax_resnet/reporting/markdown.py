"""Markdown tables."""

from collections.abc import Sequence


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, its first column to the left, all others to the right."""
    rule = ["---", *("---:" for _ in header[1:])]
    lines = [" | ".join(row) for row in (header, rule, *rows)]
    return "\n".join(f"| {line} |" for line in lines)
