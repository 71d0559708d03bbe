"""Tool calls whose arguments stand between marks of their own, one by one, as Qwen3-Coder and GLM write them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

_NAME = r"([\w.-]{1,64})"
_KEY = r"([^\s<>=\"']{1,128})"


@dataclass(frozen=True)
class Tags:
    """What a template writes around the parts of a call with two arguments: name, key, value, key, value."""

    before: str
    opening: str
    """From the name to the first key."""
    middle: str
    """From a key to its value."""
    next: str
    """From a value to the next key."""
    close: str
    """Behind the last value."""
    empty: str
    """Behind the name of a call without arguments."""
    again: str = ""
    """From the last value of a call to the name of another one; empty where that is not known."""

    @property
    def marks(self) -> str:
        """All of it."""
        return "".join((self.before, self.opening, self.middle, self.next, self.close))

    @cached_property
    def _first(self) -> re.Pattern[str]:
        return re.compile(rf"\s*{_NAME}{_loose(self.opening)}{_KEY}{_to_value(self.middle)}")

    @cached_property
    def _then(self) -> re.Pattern[str]:
        more = f"{_from_value(self.next)}{_KEY}{_to_value(self.middle)}"
        again = f"(?P<again>{_from_value(self.again)}(?={_NAME}))|" if self.again else ""
        return re.compile(f"(?:{more}|{again}(?P<end>{_from_value(self.close)}))")

    @cached_property
    def _none(self) -> re.Pattern[str]:
        return re.compile(rf"\s*{_NAME}{_loose(self.empty)}")

    def calls(self, text: str, at: int) -> tuple[list[tuple[str, dict[str, str]]], int] | None:
        """(name and arguments, as they are written, of each call behind the mark that ends at `at`; where they end);
        None for what is none, or not complete."""
        found: list[tuple[str, dict[str, str]]] = []
        while one := self._call(text, at):
            name, arguments, at, more = one
            found.append((name, arguments))
            if not more:
                return found, at
        return None

    def _call(self, text: str, at: int) -> tuple[str, dict[str, str], int, bool] | None:
        """(name, arguments, where it ends, whether another one begins there)."""
        found = self._first.match(text, at)
        if found is None:
            bare = self._none.match(text, at)
            return (bare[1], {}, bare.end(), False) if bare else None
        name, key, start = found[1], found[2], found.end()
        arguments: dict[str, str] = {}
        while following := self._then.search(text, start):
            arguments[key] = text[start : following.start()]
            key, start = following[1], following.end()
            if key is None:
                return name, arguments, start, following["end"] is None
        return None


def tags_of(answer: str, empty: str, twice: str, name: str, arguments: Mapping[str, str]) -> Tags | None:
    """The tags in an answer that is a call of `name` with two `arguments`, in one that is a call without any, and in
    one that is the first of them twice; None where these do not stand there one by one. The name and the arguments are
    words that stand nowhere else."""
    words = [name, *(word for pair in arguments.items() for word in pair)]
    if len(words) != 5 or any(answer.count(word) != 1 for word in words):
        return None
    places = [answer.index(word) for word in words]
    pieces = list(_between(answer, words, places))
    before, opening, middle, following, again, close = pieces
    if places != sorted(places) or middle != again or not all(map(str.strip, (before, middle, following, close))):
        return None
    none = empty.removeprefix(before + name) if empty.startswith(before + name) else close
    whole = answer.removesuffix(close)
    again = twice.removeprefix(whole).partition(name)[0] if twice.startswith(whole) else ""
    return Tags(before, opening, middle, following, close, none, again if again.strip() else "")


def can_be_named(word: str) -> bool:
    """Whether a call of a tool by this name is read as one."""
    return re.fullmatch(_NAME, word) is not None


def can_be_key(word: str) -> bool:
    """Whether an argument by this name is read as one."""
    return re.fullmatch(_KEY, word) is not None


def typed(value: str, schema: object) -> object:
    """An argument as its schema wants it: a text stays one, everything else is read as JSON where it is."""
    kinds = schema.get("type") if isinstance(schema, dict) else None
    wanted = kinds if isinstance(kinds, list) else [kinds]
    if "string" in wanted:
        return value
    try:
        found: object = json.loads(value.strip().lower() if wanted == ["boolean"] else value)
    except (ValueError, RecursionError):
        return value
    return value if isinstance(found, str) and kinds is None else found


def _between(answer: str, words: list[str], places: list[int]) -> Iterator[str]:
    """What stands before, between and behind the words."""
    ends = [at + len(word) for at, word in zip(places, words, strict=True)]
    yield from (answer[end:start] for end, start in zip([0, *ends], [*places, len(answer)], strict=True))


def _loose(text: str) -> str:
    """A mark as a pattern in which any spaces, or none, stand for spaces."""
    inner = r"\s*".join(map(re.escape, text.split()))
    return rf"\s*{inner}\s*"


def _to_value(text: str) -> str:
    """A mark before a value, of whose own spaces none belong to the mark but a line's end."""
    return rf"\s*{re.escape(text.strip())}" + (r"\n?" if text.endswith("\n") else "")


def _from_value(text: str) -> str:
    """A mark behind a value."""
    return (r"\n?" if text.startswith("\n") else "") + _loose(text).removeprefix(r"\s*")
