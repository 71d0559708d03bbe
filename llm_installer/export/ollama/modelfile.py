"""A Modelfile, written and read by Ollama's rules.

A value goes to the end of its line, or begins with " or three of them and then goes on until a line ends with the same.
Spaces around it are left out, and so is each character in it that cannot be printed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from llm_installer.core.errors import ModelError

WORDS = ("FROM", "ADAPTER", "REQUIRES", "TEMPLATE", "SYSTEM", "PARAMETER", "LICENSE", "MESSAGE")
_THREE = '"""'
_QUOTES = ("", _THREE, '"')
"""What a value may be written between; the first way that says it is taken."""


@dataclass(frozen=True)
class Line:
    """One instruction."""

    word: str
    """One of WORDS."""
    value: str
    name: str = ""
    """Of a parameter."""


def written(lines: Iterable[Line]) -> str:
    """The text of a Modelfile. Raises ModelError for a value that none can say."""
    return "".join(f"{_start(line)}{_quoted(line)}\n" for line in lines)


def sayable(line: Line) -> bool:
    """Whether a Modelfile can say it."""
    return any(_says(line, quotes) for quotes in _QUOTES)


def _quoted(line: Line) -> str:
    found = next((quotes for quotes in _QUOTES if _says(line, quotes)), None)
    if found is None:
        raise ModelError(f"No Modelfile can say the {line.word} {line.value!r}")
    return f"{found}{line.value}{found}"


def _says(line: Line, quotes: str) -> bool:
    """Whether the value between these quotes is read as what it is, and ends where it ends."""
    after = Line("FROM", "x")
    try:
        return list(read(f"{_start(line)}{quotes}{line.value}{quotes}\n{_start(after)}{after.value}\n")) == [
            line,
            after,
        ]
    except ModelError:
        return False


def _start(line: Line) -> str:
    return f"{line.word} {line.name} " if line.name else f"{line.word} "


def read(text: str) -> Iterator[Line]:
    """The instructions of a Modelfile. Raises ModelError for what Ollama would not take."""
    rest = text
    while rest := rest.lstrip(" \t\r\n"):
        if rest.startswith("#"):
            rest = _after_line(rest)
            continue
        word, name = _cut(rest)[0], ""
        rest = _cut(rest)[1]
        if word.upper() not in WORDS:
            raise ModelError(f"{word!r} is no instruction of a Modelfile")
        if word.upper() in ("PARAMETER", "MESSAGE"):
            name, rest = _cut(rest)
        value, rest = _value(rest)
        yield Line(word.upper(), value, name)


def _cut(text: str) -> tuple[str, str]:
    """A word, and what follows the space after it."""
    end = next((at for at, c in enumerate(text) if c in " \t\r\n"), len(text))
    return text[:end], text[end + 1 :]


def _after_line(text: str) -> str:
    end = next((at for at, c in enumerate(text) if c in "\r\n"), len(text))
    return text[end:]


def _value(text: str) -> tuple[str, str]:
    """A value and what follows it: it ends at the first line that is whole. Raises ModelError where none is."""
    for end in [*(at for at, c in enumerate(text) if c in "\r\n"), len(text)]:
        seen = "".join(c for c in text[:end] if c.isprintable() or c in "\t\r\n").strip()
        found = _unquoted(seen)
        if found is not None:
            return found, text[end:]
    raise ModelError("A quoted value of the Modelfile does not end")


def _unquoted(text: str) -> str | None:
    """The value; None where its quotes are not closed yet."""
    for quotes in (_THREE, '"'):
        if text.startswith(quotes):
            whole = len(text) >= 2 * len(quotes) and text.endswith(quotes)
            return text[len(quotes) : -len(quotes)] if whole else None
    return text
