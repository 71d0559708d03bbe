"""Tables and plain text as Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from llm_installer.core.text import shortened, visible

LONGEST = 400
"""Characters of a cell."""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table; every cell is escaped."""
    lines = [[plain(cell) or " " for cell in row] for row in (head, *rows)]
    return ["| " + " | ".join(row) + " |" for row in (lines[0], ["---"] * len(head), *lines[1:])]


def plain(text: str) -> str:
    """The text on one line, with nothing in it that Markdown would take as its own."""
    return re.sub(r"([\\`*\[\]<|]|(?<!\w)_|_(?!\w))", r"\\\1", shortened(text, LONGEST))


def document(parts: Iterable[Sequence[str]]) -> str:
    """A document of parts, each of some lines; empty parts are left out. No control characters come into it."""
    return "\n\n".join("\n".join(map(visible, lines)) for lines in parts if lines) + "\n"
