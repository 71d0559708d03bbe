"""The records of one source on their way to examples: each converted, or skipped with a reason, and counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

from llm_installer.core.errors import DataError
from llm_installer.core.examples import Dropped, Example, Origin
from llm_installer.data.formats import Format, convert, detect, find_format, unknown_shape
from llm_installer.data.formats.columns import meant
from llm_installer.data.formats.names import in_lower_case
from llm_installer.data.formats.remarks import doubtful, made, remarks, talk
from llm_installer.data.formats.unread import unread
from llm_installer.data.reading.images import ImageError, with_image_paths
from llm_installer.data.reading.rows import Row, Source

Waiting: TypeAlias = dict[tuple[str, str], list[tuple[object, Origin]]]
"""Records that mean nothing alone, by format and by the part they are for."""
Item: TypeAlias = tuple[str, Example | Dropped]
"""What came out of a record, with the part it is for."""
_REMARKS = 100
"""Different ones that are kept of a file."""


@dataclass(frozen=True)
class Conversion:
    """What to read and how to convert it."""

    base: Path
    """The caller's folder, in which relative paths of images are looked up."""
    sources: tuple[tuple[Source, str], ...]
    """Each with the part its records are for where they do not say: "" or "validation"."""
    forced: Format | None = None
    """The format of every record, where the user named one."""
    columns: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """The user's names for what a record holds, target to source, by the name of the file; "" is for all others."""
    answers_as: str = "text"
    """What becomes of answers that are objects or lists, one of formats.answers.CHOICES."""
    strict: bool = False
    """Whether the first record that would be skipped is an error."""
    lenient: bool = False
    """Whether a source in which nothing is understood is skipped too, instead of being an error."""

    def columns_of(self, source: Source) -> Mapping[str, str]:
        """The user's names for what the records of a source hold; none where the names in the file are used."""
        return self.columns.get(source.name, self.columns.get("", {}))


@dataclass(frozen=True)
class FileSummary:
    """What was found in one file. `data --json` prints these names."""

    name: str
    formats: dict[str, int] = field(default_factory=dict)
    """Records by the format they were read as."""
    records: int = 0
    examples: int = 0
    dropped: int = 0
    """Records that are skipped."""
    unknown: int = 0
    """Those of them that have no known format, or not the one asked for."""
    remarks: dict[str, int] = field(default_factory=dict)
    """What else there is to say, and of how many records."""
    remarked: dict[str, str] = field(default_factory=dict)
    """The first record, file and line, of each remark."""


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
    """Whether an image was missing, which may be there the next time."""
    refusal: DataError | None = None
    """The error for the first record of no known format."""
    remarks: Counter[str] = field(default_factory=Counter)
    remarked: dict[str, str] = field(default_factory=dict)
    """The first record of each remark."""

    def remark(self, text: str, origin: Origin) -> None:
        """Note what there is to say of a record."""
        if text in self.remarked or len(self.remarked) < _REMARKS:
            self.remarks[text] += 1
            self.remarked.setdefault(text, str(origin))

    def add(self, more: Count) -> None:
        """Add the figures of what came after this."""
        self.formats += more.formats
        self.records += more.records
        self.examples += more.examples
        self.dropped += more.dropped
        self.unknown += more.unknown
        self.images_gone |= more.images_gone
        self.refusal = self.refusal or more.refusal
        self.remarks += more.remarks
        self.remarked = {**more.remarked, **self.remarked}

    def summary(self) -> FileSummary:
        """The final figures."""
        formats = dict(self.formats.most_common())
        remarks = dict(self.remarks.most_common())
        counts = (self.records, self.examples, self.dropped, self.unknown)
        return FileSummary(self.name, formats, *counts, remarks, self.remarked)


def examples(source: Source, rows: Iterable[Row], conversion: Conversion, count: Count) -> Iterator[Item]:
    """What is in the records of a source, each with the part it is for, counted.

    Records that mean nothing alone wait for the end of their file, to be put together. Raises DataError when nothing
    in the source is understood, unless `conversion` is lenient; when it is strict, for the first record that is not.
    """
    waiting: Waiting = {}
    yield from converted(source, rows, conversion, count, waiting)
    yield from put_together(source, waiting, conversion, count)


def converted(
    source: Source, rows: Iterable[Row], conversion: Conversion, count: Count, waiting: Waiting
) -> Iterator[Item]:
    """What is in the records themselves; those that mean nothing alone are added to `waiting`."""
    columns = conversion.columns_of(source)
    told = meant(columns, conversion.forced) if columns else conversion.forced
    for row in rows:
        count.records += 1
        try:
            format = told or detect(row.value)
            if format is None:
                raise unknown_shape(row.value, row.origin)
            if format.group:
                count.formats[format.name] += 1
                waiting.setdefault((format.name, row.part), []).append((_named(row.value), row.origin))
                continue
            found = convert(row.value, row.origin, format, columns, conversion.answers_as)
            if not row.ends:
                found = tuple(replace(item, ends=False) if type(item) is Example else item for item in found)
        except DataError as error:
            yield row.part, _not_understood(error, row.origin, conversion, count)
            continue
        count.formats[format.name] += 1
        _remark(row, found, conversion, count)
        if type(row.value) is dict and not columns:
            for text in (text for item in found if type(item) is Example for text in unread(row.value, item)):
                count.remark(text, row.origin)
        for item in found:
            yield row.part, _settled(item, source, conversion, count)


def put_together(source: Source, waiting: Waiting, conversion: Conversion, count: Count) -> Iterator[Item]:
    """What is in the records that waited for the end of their source, which this is."""
    for (name, part), rows in waiting.items():
        format = find_format(name)
        assert format.group
        for value, origin in format.group(rows):
            try:
                found = convert(value, origin, format, conversion.columns_of(source), conversion.answers_as)
            except DataError as error:
                yield part, _not_understood(error, origin, conversion, count)
                continue
            for item in found:
                yield part, _settled(item, source, conversion, count)
    if count.refusal and not count.examples and count.dropped == count.unknown and not conversion.lenient:
        raise count.refusal


def _named(record: object) -> object:
    return in_lower_case(record) if isinstance(record, dict) else record


def _remark(row: Row, found: Sequence[Example | Dropped], conversion: Conversion, count: Count) -> None:
    """Note what there is to say of a record. Raises DataError in a strict conversion for an answer that is in doubt."""
    turns = talk(row.value)
    for text in dict.fromkeys(doubtful(turns)) if turns else ():
        if conversion.strict:
            raise DataError(f"{row.origin}: {text}; correct it, or run without --strict")
        count.remark(text, row.origin)
    for text in dict.fromkeys(remarks(row.value, turns)):
        count.remark(text, row.origin)
    for item in found:
        if type(item) is Example:
            for text in made(item, conversion.forced):
                count.remark(text, row.origin)


def _settled(item: Example | Dropped, source: Source, conversion: Conversion, count: Count) -> Example | Dropped:
    """The item with its images found, counted."""
    if type(item) is Example and item.images:
        try:
            item = with_image_paths(item, source, conversion.base)
        except ImageError as gone:
            count.images_gone = True
            item = Dropped(item.origin, str(gone))
    if type(item) is Example:
        count.examples += 1
    else:
        count.dropped += 1
    return item


def _not_understood(error: DataError, origin: Origin, conversion: Conversion, count: Count) -> Dropped:
    """A record among others that are understood is skipped; the advice is kept for when none is."""
    if conversion.strict:
        raise error
    count.dropped += 1
    count.unknown += 1
    count.refusal = count.refusal or error
    return Dropped(origin, str(error).removeprefix(f"{origin}: ").partition("; ")[0])
