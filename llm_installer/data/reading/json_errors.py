"""Why a text is not JSON: what was found at which line and column, and how to correct it."""

from __future__ import annotations

import json
import math
import re

from llm_installer.core.errors import DataError
from llm_installer.core.text import shortened

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|-?Infinity|NaN')
_SURROGATE = re.compile("[\ud800-\udfff]")
_WORDS = re.compile(r"(None|True|False|undefined|nan|inf|nil)\b")
_CLOSE = 'the string that begins here is never closed; end it with "'
_COMMA = "a trailing comma; remove the comma before the closing bracket"
# The first row of which both patterns match wins: the decoder's message, what stands there, the advice.
_ADVICE = tuple(
    (re.compile(message), re.compile(found), advice)
    for message, found, advice in (
        ("Illegal trailing comma", "", _COMMA),
        ("Unterminated string", "", _CLOSE),
        ("Invalid control character", r"[\r\n]", "a line break inside a string; write it as \\n"),
        ("Invalid control character", r"\t", "a tab inside a string; write it as \\t"),
        ("Invalid control character", r"\x00", "a NUL byte, which is not text; remove it"),
        ("Invalid control character", "", "a control character inside a string; remove it"),
        (r"Invalid \\uXXXX", "", "an invalid \\u escape; it takes four hexadecimal digits, as in \\u00e9"),
        (r"Invalid \\escape", "", "a backslash that does not begin a JSON escape; write a backslash as \\\\"),
        ("", "$", "the JSON ends too early; a brace, bracket or quote before this place is never closed"),
        ("", "\ufeff", "a byte order mark in the middle of the file, as left by joining files; remove it"),
        ("", "'", 'single quotes; JSON strings and names are in double quotes, as in "name"'),
        ("", "//|/\\*|#", "a comment; JSON has no comments, remove it"),
        ("", "<", "the beginning of a web page or XML, not JSON; download the data itself"),
        ("", _WORDS.pattern, "{found} is not a JSON value; write null, true or false"),
        ("Extra data", ",", "a comma after a complete record; remove it, or put [ ] around all records"),
        ("Extra data", "", "{found} after a complete record; check the brackets before it"),
        ("property name", "", "{found} where a name in double quotes should be"),
        ("':' delimiter", "", "{found} where the colon after a name should be"),
        (
            "',' delimiter",
            "",
            '{found} where a comma or a closing bracket should be; a quote inside a string is written \\"',
        ),
        ("", "", "{found} where a JSON value should be"),
    )
)


def not_json(error: json.JSONDecodeError, name: str, first_line: int) -> DataError:
    """The error for a part of the file `name` that begins at line `first_line`, 1-based."""
    before = error.doc[: error.pos].rstrip()
    if before.endswith(",") and error.doc[error.pos : error.pos + 1] in ("}", "]"):
        error = json.JSONDecodeError("Illegal trailing comma", error.doc, len(before) - 1)  # as Python 3.13 says it
    found = error.doc[error.pos : error.pos + 24]
    advice = next(text for expected, at, text in _ADVICE if expected.search(error.msg) and at.match(found))
    word = re.match(r"[\w.+-]+|.", found)
    shown = f'"{word[0]}"' if word and word[0] != '"' else "a double quote"
    line = first_line + error.lineno - 1
    return DataError(f"{name}:{line}, column {error.colno}: " + advice.replace("{found}", shown))


class DecoderHooks:
    """Callbacks of Python's decoder: they refuse what JSON forbids and what would be lost. Each raises DataError."""

    def __init__(self, name: str, text: str, first_line: int) -> None:
        self._name, self._text, self._line = name, text, first_line

    def constant(self, word: str) -> object:
        """Refuses NaN, Infinity and -Infinity, with their place."""
        tokens = _TOKEN.finditer(self._text)
        place = next(token.start() for token in tokens if token[0] == word)
        line = self._line + self._text.count("\n", 0, place)
        column = place - self._text.rfind("\n", 0, place)
        raise DataError(f"{self._name}:{line}, column {column}: {word} is not a JSON value; write null or a number")

    def number(self, digits: str) -> float:
        """A number with a point or an exponent; refuses what is too large for a float."""
        if math.isinf(value := float(digits)):
            raise DataError(f'{self._where()}: the number {shortened(digits, 30)} is too large; write it as "text"')
        return value

    def pairs(self, pairs: list[tuple[str, object]]) -> dict[str, object]:
        """An object; refuses a name that is given twice."""
        record = dict(pairs)
        if len(record) == len(pairs):
            return record
        names = [name for name, _ in pairs]
        twice = next(name for name in record if names.count(name) > 1)
        raise DataError(
            f'{self._where()}: the name "{shortened(twice, 40)}" is given twice in one record '
            f"({shortened(json.dumps(record, ensure_ascii=False), 60)}); remove one of the two"
        )

    def check_surrogates(self, value: object) -> None:
        """Refuses halves of surrogate pairs, which no tokenizer can encode."""
        if half := _SURROGATE.search(json.dumps(value, ensure_ascii=False)):
            raise DataError(
                f"{self._where()}: \\u{ord(half[0]):04x} is half of a character, as when a text is cut "
                f"inside an emoji; remove it"
            )

    def _where(self) -> str:
        many = "\n" in self._text.strip()
        return self._name if many else f"{self._name}:{self._line}"
