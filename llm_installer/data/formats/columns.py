"""--columns: the user's own names for what a record holds, as in prompt=Question,answer="Best Answer"."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from llm_installer.core.errors import UsageError
from llm_installer.core.text import shortened
from llm_installer.data.formats.detect import find_format
from llm_installer.data.formats.format import Format
from llm_installer.data.formats.values import Record
from llm_installer.data.reading.named import named_files

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


def columns_by_file(text: str, known: Sequence[str], base: Path) -> dict[str, dict[str, str]]:
    """The text after --columns for each file, "" for those that it does not name; `known` are the files that are read.

    FILE: before a target is for it and the targets after it, as in a.csv:prompt=Q,answer=A,b.csv:prompt=F,answer=G.
    Raises UsageError.
    """
    parts: dict[str, list[str]] = {}
    file, place = "", 0
    while place < len(text):
        item = _ITEM.match(text, place)
        found = item.group().rstrip(", ") if item else text[place:]
        name, colon, target = item["target"].rpartition(":") if item else ("", "", "")
        if colon:
            file, found = name.strip(), target + found.strip()[len(item["target"]) :] if item else found
        parts.setdefault(file, []).append(found)
        place = item.end() if item else len(text)
    typed = {file: ",".join(items) for file, items in parts.items()}
    named = named_files({file: each for file, each in typed.items() if file}, known, base, "--columns")
    everywhere = {"": typed[""]} if "" in typed or not named else {}
    return {file: parse_columns(each) for file, each in {**everywhere, **named}.items()}


def _unquoted(source: str) -> str:
    if source[:1] in ("'", '"') and source[:1] == source[-1:]:
        return source[1:-1].replace('""', '"')
    return source


def meant(columns: Mapping[str, str], forced: Format | None) -> Format:
    """The format that records of these columns are read as: `forced`, or the one that the targets imply."""
    return forced or next(find_format(name) for targets, name in _MEANT if columns.keys() >= set(targets))


def renamed(record: Record, columns: Mapping[str, str], row: Format) -> Record:
    """A record of the named columns only, under the keys of the format `row`. Raises KeyError for one it lacks.

    A column is found whatever its case, where only one is named so.
    """
    keys = _sources(tuple(record), tuple(columns.values()))
    return {row.columns.get(target, target): record[keys[source]] for target, source in columns.items()}


@lru_cache(maxsize=4096)
def _sources(keys: tuple[str, ...], sources: tuple[str, ...]) -> Mapping[str, str]:
    """The key of a record that each source means."""
    found = {}
    for source in sources:
        same = [key for key in keys if isinstance(key, str) and key.casefold() == source.casefold()]
        if source not in keys and len(same) != 1:
            raise KeyError(source)
        found[source] = source if source in keys else same[0]
    return found
