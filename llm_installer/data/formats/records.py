"""From a record to its examples, or to the reason why it is skipped."""

from __future__ import annotations

from collections.abc import Mapping

from llm_installer.core.examples import Dropped, Example, Origin
from llm_installer.data.formats.columns import renamed
from llm_installer.data.formats.detect import detect, has_shape
from llm_installer.data.formats.format import Format
from llm_installer.data.formats.shape_errors import unknown_shape, wrong_columns, wrong_shape
from llm_installer.data.formats.values import Record, SkipRecord


def convert(
    record: object, origin: Origin, forced: Format | None = None, columns: Mapping[str, str] | None = None
) -> tuple[Example | Dropped, ...]:
    """The examples in a record, usually one; what cannot be trained on comes as Dropped, with the reason.

    `columns` maps targets of --columns to keys of the record. Raises DataError when the record has no known format,
    or lacks what `forced` or `columns` say it has.
    """
    if columns:
        if not isinstance(record, Mapping) or any(source not in record for source in columns.values()):
            there = record if isinstance(record, Mapping) else ()
            raise wrong_columns(record, origin, next(source for source in columns.values() if source not in there))
        record, forced = renamed(record, columns, forced)
    row = forced or detect(record)
    if row is None:
        raise unknown_shape(record, origin)
    fields = {"text": record} if isinstance(record, str) else record
    if not isinstance(fields, Mapping) or (forced and not has_shape(row, tuple(fields))):
        raise wrong_shape(record, origin, row)
    if row.spread is None:
        return (_one(row, fields, origin),)
    try:
        parts = tuple([_one(row, part, origin) for part in row.spread(fields)])
    except SkipRecord as broken:
        return (Dropped(origin, broken.reason),)
    return parts or (Dropped(origin, "it has no questions"),)


def _one(row: Format, record: Record, origin: Origin) -> Example | Dropped:
    try:
        return row.convert(record, origin)
    except SkipRecord as nothing:
        return Dropped(origin, nothing.reason)
    except RecursionError:
        return Dropped(origin, "its values are nested too deeply")
