"""How a help text looks: Markdown as plain paragraphs, wrapped at words on a terminal and left alone in a pipe."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console as RichConsole
from rich.console import ConsoleOptions, RenderableType, RenderResult
from rich.text import Text

from llm_installer.core.hints import program
from llm_installer.ui.drawing import drawing
from llm_installer.ui.tables import NARROWEST, WIDEST, Columns
from llm_installer.ui.wrapping import wrapped

_ITEM = re.compile(r"(\s*)([-*]|\d+\.) +(.*)", re.S)
_CODE = re.compile(r"(\s*(?:\S+(?: \S+)*\s{2,})?)(\S.*)")
"""A command or option, a gap, and what it does."""
_MARKS = re.compile(r"\[([^\]]+)\]\([^)]+\)|(`)|(\*\*)")


@dataclass(frozen=True)
class Topics:
    """The topics there are, and what each is about."""

    about: Mapping[str, str]


@dataclass(frozen=True)
class Topic:
    """A text about a topic, as Markdown."""

    markdown: str


@drawing.register
def topics(shown: Topics) -> Iterator[RenderableType]:
    """One line a topic."""
    yield Text("Topics", style="bold")
    yield Columns(list(shown.about.items()), styles=("bold",), indent=2)
    yield Text()
    yield Text(f"Read one with: {program()} help TOPIC")
    yield Text(f"A command explains itself with: {program()} help COMMAND")


@drawing.register
def topic(shown: Topic) -> Iterator[RenderableType]:
    """The whole text."""
    yield _Written(shown.markdown)


class _Written:
    def __init__(self, markdown: str) -> None:
        self._markdown = markdown.rstrip()

    def __rich_console__(self, console: RichConsole, options: ConsoleOptions) -> RenderResult:
        if not console.is_terminal:
            yield Text(self._markdown, no_wrap=True, overflow="ignore")
            return
        width = min(options.max_width, WIDEST)
        for number, block in enumerate(_blocks(self._markdown)):
            if number:
                yield Text()
            yield from _drawn(console, block, width)


def _blocks(markdown: str) -> Iterator[str]:
    """Paragraphs, lists, tables and fenced blocks, which empty lines divide; a fenced block stays together."""
    for part in re.split(r"(^```.*?^```$)", markdown, flags=re.S | re.M):
        if part.startswith("```"):
            yield part
        else:
            yield from (block for block in re.split(r"\n\s*\n", part.strip("\n")) if block.strip())


def _drawn(console: RichConsole, block: str, width: int) -> Iterator[RenderableType]:
    lines = block.split("\n")
    if block.startswith("```"):
        yield from (part for line in lines[1:-1] for part in _verbatim(console, [f"    {line}"], width))
    elif block.startswith("    "):
        yield from (part for entry in _entries(lines) for part in _verbatim(console, entry, width))
    elif block.startswith("|"):
        rows = [[_plain(cell.strip()) for cell in line.strip("|").split("|")] for line in lines]
        yield Columns(rows[2:], head=rows[0], styles=("bold",))
    elif block.startswith("#"):
        yield Text(_plain(block.lstrip("# ")), style="bold")
    else:
        for text in re.split(r"\n(?=\s*(?:[-*]|\d+\.) )", block):
            yield from _paragraph(console, text, width)


def _entries(lines: Sequence[str]) -> Iterator[list[str]]:
    """Lines that belong together: what continues in the second column is part of the line above."""
    entry: list[str] = []
    for line in lines:
        found = _CODE.match(entry[0]) if entry else None
        if found and found[1].strip() and not line[: len(found[1])].strip():
            entry.append(line)
            continue
        if entry:
            yield entry
        entry = [line]
    yield entry


def _verbatim(console: RichConsole, entry: Sequence[str], width: int) -> Iterator[Text]:
    """Lines as they are written; where one is too long, all go on below their second column, or below the first."""
    if max(map(len, entry)) <= width:
        yield from map(_line, entry)
        return
    line = " ".join([entry[0], *(part.strip() for part in entry[1:])])
    found = _CODE.match(line)
    start, body = (found[1], found[2]) if found else ("", line)
    if width - len(start) < NARROWEST and start.strip():
        yield _line(start.rstrip())
        start = " " * 8
    for number, part in enumerate(wrapped(console, Text(body), width - len(start))):
        yield _line((" " * len(start) if number else start) + part.plain)


def _paragraph(console: RichConsole, text: str, width: int) -> Iterator[Text]:
    """A paragraph or an item of a list, whose lines hang below its first word."""
    item = _ITEM.match(text)
    start = f"{item[1]}{item[2]} " if item else ""
    body = _plain(" ".join((item[3] if item else text).split()))
    for number, line in enumerate(wrapped(console, Text(body), width - len(start))):
        yield _line((start if not number else " " * len(start)) + line.plain)


def _plain(text: str) -> str:
    """Without what Markdown writes for links, code and bold."""
    return _MARKS.sub(lambda found: found[1] or "", text)


def _line(text: str) -> Text:
    return Text(text, no_wrap=True, overflow="ignore")
