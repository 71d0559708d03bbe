"""--columns: the user's own names for what a record holds, as in prompt=Question,answer="Best Answer"."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping

from llm_installer.core.errors import UsageError
from llm_installer.core.text import shortened
from llm_installer.data.formats.detect import find_format
from llm_installer.data.formats.format import Format
from llm_installer.data.formats.values import Record

TARGETS = ("prompt", "answer", "context", "system", "history", "messages", "tools", "image", "text")
"""What a column can be."""

# The format that a set of targets implies without --dataset-format: the first whose targets are all there.
_MEANT = ((("messages",), "openai"), (("prompt", "answer"), "qa"), (("image", "answer"), "vision"), (("text",), "text"))

_ITEM = re.compile(r"""\s*(?P<target>[^=,]*?)\s*=\s*(?P<source>"(?:[^"]|"")*"|'[^']*'|(?!["'])[^,]*?)\s*(?:,|$)""")


def parse_columns(text: str) -> dict[str, str]:
    """The text after --columns as a dict, target to the user's key; keys with a comma are quoted. Raises UsageError."""
    columns: dict[str, str] = {}
    place = 0
    while place < len(text):
        item = _ITEM.match(text, place)
        if not item or not _unquoted(item["source"]):
            raise UsageError(
                f"--columns cannot be read at '{shortened(text[place:], 80)}'; "
                f"write it as --columns prompt=KEY,answer=KEY"
            )
        target = item["target"].lower()
        if target not in TARGETS:
            close = difflib.get_close_matches(target, TARGETS, n=1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            raise UsageError(f"--columns has no target '{item['target']}'{hint}; it takes {', '.join(TARGETS)}")
        if target in columns:
            raise UsageError(f"--columns names '{target}' twice; name it once")
        columns[target] = _unquoted(item["source"])
        place = item.end()
    if not any(columns.keys() >= set(targets) for targets, _ in _MEANT):
        raise UsageError(
            f"--columns '{text}' names nothing to train on: give prompt and answer, image and answer, messages, or text"
        )
    return columns


def _unquoted(source: str) -> str:
    if source[:1] in ("'", '"') and source[:1] == source[-1:]:
        return source[1:-1].replace('""', '"')
    return source


def renamed(record: Record, columns: Mapping[str, str], forced: Format | None) -> tuple[Record, Format]:
    """A record of the named columns only, under the keys of `forced` or of the format that the targets imply; and it.

    Every source in `columns` must be a key of the record.
    """
    row = forced or next(find_format(name) for targets, name in _MEANT if columns.keys() >= set(targets))
    return {row.columns.get(target, target): record[source] for target, source in columns.items()}, row
