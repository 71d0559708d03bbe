"""The rows of one source on their way to examples: each converted, or left out by name and reason, and counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from llm_installer.core.errors import DataError
from llm_installer.core.examples import Dropped, Example, Origin
from llm_installer.data.formats import Format, convert, detect, find_format, unknown_shape
from llm_installer.data.reading.images import ImageGone, placed
from llm_installer.data.reading.rows import Row, Source

Waiting: TypeAlias = dict[tuple[str, str], list[tuple[object, Origin]]]
"""Rows that mean nothing alone, by format and by the part they are for."""
Item: TypeAlias = tuple[str, Example | Dropped]
"""What came out of a row, with the part it is for."""


@dataclass(frozen=True)
class Request:
    """What to read and how to take it."""

    base: Path
    """The caller's folder."""
    sources: tuple[tuple[Source, str], ...]
    """Each with the part its rows are for where they do not say: "" or "validation"."""
    forced: Format | None = None
    columns: Mapping[str, str] | None = None
    strict: bool = False
    """Whether the first record that would be left out is an error."""
    lenient: bool = False
    """Whether even a source in which nothing is understood is left out, instead of being an error."""


@dataclass(frozen=True)
class FileReport:
    """What was found in one file."""

    name: str
    formats: dict[str, int] = field(default_factory=dict)
    """Records by the format they were read as."""
    records: int = 0
    examples: int = 0
    dropped: int = 0
    unknown: int = 0
    """Records that were left out because they have no known format, or not the one asked for."""


@dataclass
class Count:
    """What came out of a source so far."""

    name: str
    formats: Counter[str] = field(default_factory=Counter)
    records: int = 0
    examples: int = 0
    dropped: int = 0
    unknown: int = 0
    images_gone: bool = False
    """Whether something was left out that the next look may find."""
    refusal: DataError | None = None
    """What the first record of no known format would be refused with."""

    def add(self, more: Count) -> None:
        """Count what came after this, too."""
        self.formats += more.formats
        self.records += more.records
        self.examples += more.examples
        self.dropped += more.dropped
        self.unknown += more.unknown
        self.images_gone |= more.images_gone
        self.refusal = self.refusal or more.refusal

    def report(self) -> FileReport:
        """The final figures."""
        formats = dict(self.formats.most_common())
        return FileReport(self.name, formats, self.records, self.examples, self.dropped, self.unknown)


def examples(source: Source, rows: Iterable[Row], request: Request, count: Count) -> Iterator[Item]:
    """What is in the rows of a source, each with the part it is for, counted.

    Rows that mean nothing alone wait for the end of their file, to be put together. Raises DataError when nothing in
    the source is understood, unless the request is lenient; when it is strict, for the first row that is not.
    """
    waiting: Waiting = {}
    yield from converted(source, rows, request, count, waiting)
    yield from put_together(source, waiting, request, count)


def converted(source: Source, rows: Iterable[Row], request: Request, count: Count, waiting: Waiting) -> Iterator[Item]:
    """What is in the rows themselves; those that mean nothing alone are added to `waiting`."""
    for row in rows:
        count.records += 1
        try:
            format = request.forced or detect(row.value)
            if format is None:
                raise unknown_shape(row.value, row.origin)
            if format.group:
                count.formats[format.name] += 1
                waiting.setdefault((format.name, row.part), []).append((row.value, row.origin))
                continue
            found = convert(row.value, row.origin, format, request.columns)
        except DataError as error:
            yield row.part, _not_understood(error, row.origin, request, count)
            continue
        count.formats[format.name] += 1
        for item in found:
            yield row.part, _settled(item, source, request, count)


def put_together(source: Source, waiting: Waiting, request: Request, count: Count) -> Iterator[Item]:
    """What is in the rows that waited for the end of their source, which this is."""
    for (name, part), rows in waiting.items():
        format = find_format(name)
        assert format.group
        for value, origin in format.group(rows):
            try:
                found = convert(value, origin, format, request.columns)
            except DataError as error:
                yield part, _not_understood(error, origin, request, count)
                continue
            for item in found:
                yield part, _settled(item, source, request, count)
    if count.refusal and not count.examples and count.dropped == count.unknown and not request.lenient:
        raise count.refusal


def _settled(item: Example | Dropped, source: Source, request: Request, count: Count) -> Example | Dropped:
    """The item with its images found, counted."""
    if type(item) is Example and item.images:
        try:
            item = placed(item, source, request.base)
        except ImageGone as gone:
            count.images_gone = True
            item = Dropped(item.origin, str(gone))
    if type(item) is Example:
        count.examples += 1
    else:
        count.dropped += 1
    return item


def _not_understood(error: DataError, origin: Origin, request: Request, count: Count) -> Dropped:
    """A row among others that are understood is left out, and the advice is left for when none is."""
    if request.strict:
        raise error
    count.dropped += 1
    count.unknown += 1
    count.refusal = count.refusal or error
    return Dropped(origin, str(error).removeprefix(f"{origin}: ").partition("; ")[0])
