"""Why a text is not JSON, in words: what was found at which line and column, and what to do about it."""

from __future__ import annotations

import json
import math
import re

from llm_installer.core.errors import DataError
from llm_installer.data.reading.rows import shortened

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|-?Infinity|NaN')
_SURROGATE = re.compile("[\ud800-\udfff]")
_WORDS = re.compile(r"(None|True|False|undefined|nan|inf|nil)\b")
_CLOSE = 'a text that begins here is never closed; end it with "'
_COMMA = "a trailing comma; take out the comma before the closing bracket"
# The first row of which both patterns match wins: the decoder's message, what stands there, the advice.
_ADVICE = tuple(
    (re.compile(message), re.compile(found), advice)
    for message, found, advice in (
        ("Illegal trailing comma", "", _COMMA),
        ("Unterminated string", "", _CLOSE),
        ("Invalid control character", r"[\r\n]", "a text runs over the end of the line; write the line break as \\n"),
        ("Invalid control character", r"\t", "a tab inside a text; write it as \\t"),
        ("Invalid control character", r"\x00", "a NUL byte, which is no text; take it out"),
        ("Invalid control character", "", "a control character inside a text; take it out"),
        (r"Invalid \\uXXXX", "", "a broken \\u escape; it takes four hexadecimal digits, as in \\u00e9"),
        (r"Invalid \\escape", "", "a backslash that begins no JSON escape; write a backslash as \\\\"),
        ("", "$", "the text ends too early; a brace, bracket or quote before it is never closed"),
        ("", "\ufeff", "a byte order mark in the middle of the file, as left by joining files; take it out"),
        ("", "'", 'single quotes; JSON texts and names stand in double quotes, as in "name"'),
        ("", "//|/\\*|#", "a comment; JSON has none, take it out"),
        ("", "<", "the beginning of a web page or XML, not JSON; download the data themselves"),
        ("", _WORDS.pattern, "{found} is not a JSON value; write null, true or false"),
        ("Extra data", ",", "a comma after a whole record; take it out, or put [ ] around all records"),
        ("Extra data", "", "{found} after a whole record; check the brackets before it"),
        ("property name", "", "{found} where a name in double quotes should stand"),
        ("':' delimiter", "", "{found} where the colon after a name should stand"),
        (
            "',' delimiter",
            "",
            '{found} where a comma or a closing bracket should stand; a quote in a text is written \\"',
        ),
        ("", "", "{found} where a JSON value should stand"),
    )
)


def not_json(error: json.JSONDecodeError, name: str, first_line: int) -> DataError:
    """The error for a text of the file `name` whose first line has the number `first_line`."""
    before = error.doc[: error.pos].rstrip()
    if before.endswith(",") and error.doc[error.pos : error.pos + 1] in ("}", "]"):
        error = json.JSONDecodeError("Illegal trailing comma", error.doc, len(before) - 1)  # as Python 3.13 says it
    found = error.doc[error.pos : error.pos + 24]
    advice = next(text for expected, at, text in _ADVICE if expected.search(error.msg) and at.match(found))
    word = re.match(r"[\w.+-]+|.", found)
    shown = f'"{word[0]}"' if word and word[0] != '"' else "a double quote"
    line = first_line + error.lineno - 1
    return DataError(f"{name}:{line}, column {error.colno}: " + advice.replace("{found}", shown))


class Hooks:
    """What Python's decoder calls back: refuses by name what JSON forbids or a reader would lose."""

    def __init__(self, name: str, text: str, first_line: int) -> None:
        self._name, self._text, self._line = name, text, first_line

    def constant(self, word: str) -> object:
        tokens = _TOKEN.finditer(self._text)
        place = next(token.start() for token in tokens if token[0] == word)
        line = self._line + self._text.count("\n", 0, place)
        column = place - self._text.rfind("\n", 0, place)
        raise DataError(f"{self._name}:{line}, column {column}: {word} is not a JSON value; write null or a number")

    def number(self, digits: str) -> float:
        if math.isinf(value := float(digits)):
            raise DataError(f'{self._where()}: the number {shortened(digits, 30)} is too large; write it as "text"')
        return value

    def pairs(self, pairs: list[tuple[str, object]]) -> dict[str, object]:
        record = dict(pairs)
        if len(record) == len(pairs):
            return record
        names = [name for name, _ in pairs]
        twice = next(name for name in record if names.count(name) > 1)
        raise DataError(
            f'{self._where()}: the name "{shortened(twice, 40)}" stands twice in one record '
            f"({shortened(json.dumps(record, ensure_ascii=False), 60)}); take one of the two out"
        )

    def faithful(self, value: object) -> None:
        """Refuse halves of characters, which no tokenizer can encode."""
        if half := _SURROGATE.search(json.dumps(value, ensure_ascii=False)):
            raise DataError(
                f"{self._where()}: \\u{ord(half[0]):04x} is half of a character, as left where a text is cut "
                f"inside an emoji; take it out"
            )

    def _where(self) -> str:
        many = "\n" in self._text.strip()
        return self._name if many else f"{self._name}:{self._line}"
