"""The table of formats for the guide to data, made from FORMATS."""

from __future__ import annotations

from llm_installer.data.formats.format import Shape
from llm_installer.data.formats.table import FORMATS


def formats_table() -> str:
    """The formats as a Markdown table, in the order in which they are tried, for docs/data.md."""
    rows = [
        f"| `{row.name}` | {', or '.join(_keys(shape) for shape in row.required)} | `{row.example}` | "
        f"{'; '.join(filter(None, (row.note, row.notice)))} |"
        for row in FORMATS
    ]
    return "| format | keys | example | what is learned |\n|---|---|---|---|\n" + "\n".join(rows)


def _keys(shape: Shape) -> str:
    return " ".join(f"`{key}`" for key in shape)
