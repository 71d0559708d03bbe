"""The records inside a parsed document: a list, a wrapper around one, a table by column, or a single record."""

from __future__ import annotations

import re
from collections.abc import Iterator

from llm_installer.core.errors import DataError
from llm_installer.core.text import shortened
from llm_installer.data.reading.rows import PARTS

_WRAPPERS = ("data", "examples", "items", "samples", "rows", "records", "instances", "dataset")
_ABOUT = re.compile(
    r"\$?schema|author|citation|comment|count|(created|creation|updated)(_at)?|date|description|features|format|homepage|"
    r"info|language|length|license|meta(data)?|name|num_\w+|partial|size|source|split|title|total|url|version",
    re.IGNORECASE,
)
"""Names in a wrapper that describe the file and belong to no record."""


def is_one_record(document: object) -> bool:
    """Whether the document is itself the record."""
    return isinstance(document, dict) and not _inner_lists(document) and not _is_by_column(document)


def records(document: object, name: str) -> Iterator[tuple[object, str]]:
    """Each record of a document with "train", "validation", or "" where the document does not say. Raises DataError."""
    if isinstance(document, list):
        yield from ((record, "") for record in document)
    elif not isinstance(document, dict) or is_one_record(document):
        yield document, ""
    elif _is_by_column(document):
        yield from ((record, "") for record in _by_column(document, name))
    else:
        inner = _inner_lists(document)
        _refuse_fields(document, inner, name)
        for key, members in inner.items():
            yield from ((record, PARTS.get(key.lower(), "")) for record in members)


def _inner_lists(document: dict[str, object]) -> dict[str, list[object]]:
    """The lists of records in a wrapper, by name; none when the document is not a wrapper."""
    named = {key: value for key, value in document.items() if isinstance(value, list)}
    parts = {key: value for key, value in named.items() if str(key).lower() in PARTS}
    if parts and (len(parts) == len(document) or all(map(_holds_records, parts.values()))):
        return parts
    wrapped = {key: value for key, value in named.items() if key in _WRAPPERS}
    if len(wrapped) == 1 and (len(document) == 1 or _holds_records(*wrapped.values())):
        return wrapped
    return {}


def _holds_records(values: list[object]) -> bool:
    return all(isinstance(value, dict) for value in values)


def _refuse_fields(document: dict[str, object], inner: dict[str, list[object]], name: str) -> None:
    """Refuses fields that would be lost: those that are neither lists of records nor known to describe the file."""
    lost = [key for key in document if key not in inner and not _ABOUT.fullmatch(str(key))]
    if lost:
        kept, left = next(iter(inner)), shortened(str(lost[0]), 40)
        raise DataError(
            f'{name} may be one record or a wrapper around "{kept}", because it also has "{left}"; '
            f'put [ ] around it if it is one record, or remove "{left}"'
        )


def _is_by_column(document: dict[str, object]) -> bool:
    """Whether pandas wrote it: {"question": {"0": ...}} (columns) or {"columns": [...], "data": [[...]]} (split)."""
    if {"columns", "data"} <= document.keys() <= {"columns", "index", "data"}:
        return all(isinstance(document[key], list) for key in ("columns", "data"))
    columns = list(document.values())
    first = columns[0] if columns else None
    if not isinstance(first, dict) or not first or not all(str(key).isdigit() for key in first):
        return False
    return all(isinstance(column, dict) and column.keys() == first.keys() for column in columns)


def _by_column(document: dict[str, object], name: str) -> Iterator[object]:
    match document:
        case {"columns": list(names), "data": list(lines)}:
            if len({key for key in names if isinstance(key, str)}) < len(names):
                raise DataError(f'{name}: "columns" is not a list of different names; give each column its own name')
            for line in lines:
                fits = isinstance(line, list) and len(line) == len(names)
                yield dict(zip(names, line, strict=True)) if fits else line
        case _:
            columns = {name: column for name, column in document.items() if isinstance(column, dict)}
            for index in next(iter(columns.values())):
                yield {name: column[index] for name, column in columns.items()}
