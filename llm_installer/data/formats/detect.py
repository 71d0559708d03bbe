"""From a record to its format: by its exact keys and the containers they hold, never by words in its values."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from functools import lru_cache

from llm_installer.core.errors import UsageError
from llm_installer.data.formats.format import Format
from llm_installer.data.formats.names import in_lower_case
from llm_installer.data.formats.table import FORMATS

Fits = Callable[[object], bool]

_FITS: Mapping[str, Fits] = {
    "list": lambda value: isinstance(value, list | tuple),
    "turns": lambda value: (
        value is None or isinstance(value, list | tuple) or (isinstance(value, str) and value.lstrip()[:1] == "[")
    ),
    "texts": lambda value: isinstance(value, list | tuple) and bool(value) and isinstance(value[0], str),
    "object": lambda value: isinstance(value, dict),
    # A table of text can only write true and false as words.
    "bool": lambda value: isinstance(value, bool) or (isinstance(value, str) and value.lower() in ("true", "false")),
}

_NAMES = {name: row for row in FORMATS for name in (row.name, *row.synonyms)}
_TEXT = _NAMES["text"]


# Files have few sets of keys and many rows, so the search through the table is made once per set.
@lru_cache(maxsize=4096)
def _candidates(keys: tuple[str, ...]) -> tuple[tuple[Format, tuple[str, ...], tuple[tuple[str, Fits], ...]], ...]:
    there = set(keys)
    return tuple(
        (row, tuple(shape), tuple((key, _FITS[kind]) for key, kind in shape.items() if kind))
        for row in FORMATS
        for shape in row.required
        if there.issuperset(shape)
    )


def detect(record: object) -> Format | None:
    """The first format in FORMATS that the record fits, or None.

    A format whose keys are all null gives way to the next: tables that mix formats fill up with nulls.
    """
    if isinstance(record, str):
        return _TEXT
    if type(record) is not dict and not isinstance(record, Mapping):
        return None
    record = in_lower_case(record)
    empty: Format | None = None
    for row, keys, checks in _candidates(tuple(record)):
        if checks and not all(fits(record[key]) or _is_unlabelled(record, key, fits) for key, fits in checks):
            continue
        for key in keys:
            if record[key] is not None:
                return row
        empty = empty or row
    return empty


def _is_unlabelled(record: Mapping[str, object], key: str, fits: Fits) -> bool:
    """Whether the one null is a missing label. In a table that mixes formats, more than that is null."""
    return fits is _FITS["bool"] and record[key] is None and sum(value is None for value in record.values()) == 1


@lru_cache(maxsize=4096)
def has_shape(row: Format, keys: tuple[str, ...]) -> bool:
    """Whether a record with these keys can be read as this format."""
    return any(set(keys).issuperset(shape) for shape in (*row.required, *row.when_asked))


def find_format(name: str) -> Format:
    """The format with this name or synonym, as --dataset-format takes it. Raises UsageError."""
    wanted = name.strip().lower().replace("-", "_")
    if wanted in _NAMES:
        return _NAMES[wanted]
    close = difflib.get_close_matches(wanted, _NAMES, n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    known = ", ".join(row.name for row in FORMATS)
    raise UsageError(f"unknown dataset format '{name}'{hint}; --dataset-format takes one of {known}")
