"""The values inside a record: what is text, what is missing, what is a list; a Python repr is never used."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from types import NoneType

Record = Mapping[str, object]

_KINDS: Mapping[type, str] = {
    dict: "an object",
    list: "a list",
    tuple: "a list",
    str: "text",
    bool: "true or false",
    int: "a number",
    float: "a number",
    NoneType: "null",
    bytes: "binary data",
}

_HALF = re.compile(r"\\u[dD][89a-fA-F]")
_SURROGATE = re.compile("[\ud800-\udfff]")


_NOTHING = ("null", "none", "nan")
_WORD = max(map(len, _NOTHING))
_SHORT = 200
"""Characters; a JSON text that says nothing is not longer."""


class SkipRecord(Exception):
    """A record of a known format that cannot be trained on (empty, unanswered, broken) is skipped, for this reason."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


_RENDER: dict[type, Callable[..., str]] = {
    str: str,
    NoneType: lambda _: "",
    bool: lambda value: "true" if value else "false",
    int: str,
    float: lambda value: "" if math.isnan(value) else json.dumps(value),
    Decimal: lambda value: "" if value.is_nan() else str(value),
    datetime: lambda value: value.isoformat(" "),
    date: date.isoformat,
    time: time.isoformat,
}


def blank(text: str) -> bool:
    """Whether a text is nothing but whitespace."""
    return not text or text.isspace()


def missing(value: object) -> bool:
    """Whether a value is null, or the not-a-number that tables put into empty cells."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def absent(value: object) -> bool:
    """Whether a value says that there is nothing: null, blank, "null", and lists and objects of such values."""
    if isinstance(value, str):
        value = value.strip()
        if not value or (len(value) <= _WORD and value.lower() in _NOTHING):
            return True
        if value[0] not in "[{" or len(value) > _SHORT:
            return False
        try:
            value = parsed(value)
        except SkipRecord:  # whoever reads it says what is wrong with it
            return False
    try:
        if isinstance(value, Mapping):
            return all(map(absent, value.values()))
        return all(map(absent, value)) if isinstance(value, list | tuple) else missing(value)
    except RecursionError:  # whatever is that deep in it
        return False


def render(value: object, where: str) -> str:
    """A scalar as JSON would write it, without quotes: 0 is "0", true is "true"; a missing value is "".

    `where` names the value in messages. Raises SkipRecord for what is not a scalar.
    """
    for kind in type(value).__mro__:
        if kind in _RENDER:
            try:
                return _RENDER[kind](value)
            except ValueError:  # Python writes no whole number of more than 4300 digits
                raise SkipRecord(f"{where} is a number too long to write") from None
    raise SkipRecord(f"{where} is {kind_of(value)} where text is expected")


def text(record: Record, key: str) -> str:
    """The text under `key`, "" when it is missing. Raises SkipRecord when it is a list or an object."""
    value = record.get(key)
    if type(value) is str:
        return value
    return "" if value is None else render(value, key)


def kind_of(value: object) -> str:
    """The type of a value in the user's words."""
    return next((_KINDS[kind] for kind in type(value).__mro__ if kind in _KINDS), type(value).__name__)


def pick(record: Record, keys: Sequence[str]) -> str:
    """The first of `keys` whose value is not null, else the first that is in the record, else the first."""
    for key in keys:
        if record.get(key) is not None:
            return key
    return next((key for key in keys if key in record), keys[0])


def parsed(value: object) -> object:
    """The list or object in a JSON text, which is all that a table can hold; anything else comes back as it is.

    Raises SkipRecord for half of a surrogate pair, which no tokenizer can encode.
    """
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            found = json.loads(value)
        except (ValueError, RecursionError):
            return value
        if _HALF.search(value) and _SURROGATE.search(json.dumps(found, ensure_ascii=False)):
            raise SkipRecord(
                "a JSON text inside the record has half of a character, as when a text is cut inside an emoji"
            )
        return found
    return value


def as_list(value: object, where: str) -> Sequence[object]:
    """A list, given as such or as JSON text; empty when it is missing. Raises SkipRecord for anything else."""
    if isinstance(value, list | tuple):
        return value
    if absent(value):
        return ()
    inner = parsed(value)
    if isinstance(inner, list):
        return inner
    raise SkipRecord(f"{where} is {kind_of(value)} where a list is expected")


def best_answer(value: object, where: str) -> str:
    """The first of one or many answers that is not blank, else "". Takes SQuAD's {"text": [...]} too.

    Raises SkipRecord when an answer is not text.
    """
    if type(value) is str:
        return value
    if isinstance(value, Mapping):
        value = value.get("text", value.get("value"))
    if not isinstance(value, list | tuple):
        return render(value, where)
    answers = (best_answer(item, where) for item in value)
    return next((answer for answer in answers if not blank(answer)), "")


def image_path(value: object, where: str) -> str:
    """Where an image is: a path or address as given, or the bytes in a table as a data: address. Raises SkipRecord."""
    content = value.get("bytes") if isinstance(value, Mapping) else value
    if isinstance(content, bytes) and content:
        return "data:application/octet-stream;base64," + base64.b64encode(content).decode()
    if isinstance(value, Mapping):
        value = value.get("path", value.get("url"))
    if isinstance(value, str) and not blank(value):
        return value
    raise SkipRecord(f"{where} is {kind_of(value)} where the path of an image is expected")


def image_paths(value: object, where: str) -> list[str]:
    """The images under one key (none, one or a list), as image_path gives them. Raises SkipRecord."""
    if absent(value):
        return []
    inner = parsed(value)
    given = inner if isinstance(inner, list | tuple) else [inner]
    return [image_path(item, where) for item in given if not absent(item)]
