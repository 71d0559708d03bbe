"""From a record to its examples, or to the reason why it is skipped."""

from __future__ import annotations

from collections.abc import Mapping

from llm_installer.core.examples import Dropped, Example, Origin
from llm_installer.data.formats.answers import with_json_answers
from llm_installer.data.formats.columns import meant, renamed
from llm_installer.data.formats.converters import ACCOMPANYING
from llm_installer.data.formats.detect import detect, has_shape
from llm_installer.data.formats.format import Format
from llm_installer.data.formats.names import by_known_names, in_lower_case
from llm_installer.data.formats.shape_errors import unknown_shape, wrong_columns, wrong_shape
from llm_installer.data.formats.values import Record, SkipRecord

_BESIDE = tuple(sorted(ACCOMPANYING))


def convert(
    record: object,
    origin: Origin,
    forced: Format | None = None,
    columns: Mapping[str, str] | None = None,
    answers_as: str = "text",
) -> tuple[Example | Dropped, ...]:
    """The examples in a record, usually one; what cannot be trained on comes as Dropped, with the reason.

    `columns` maps targets of --columns to keys of the record; `answers_as` is one of answers.CHOICES. Raises DataError
    when the record has no known format, or lacks what `forced` or `columns` say it has.
    """
    if columns:
        forced = meant(columns, forced)
        try:
            record = renamed(record if isinstance(record, Mapping) else {}, columns, forced)
        except KeyError as absent:
            raise wrong_columns(record, origin, str(absent.args[0])) from None
    row = forced or detect(record)
    if row is None:
        raise unknown_shape(record, origin)
    fields: object = {"text": record} if isinstance(record, str) else record
    if isinstance(fields, Mapping):
        fields = by_known_names(in_lower_case(fields), _BESIDE)
    if not isinstance(fields, Mapping) or (forced and not has_shape(row, tuple(fields))):
        raise wrong_shape(record, origin, row)
    try:
        if answers_as == "json":
            fields = with_json_answers(fields)
        if row.spread is None:
            return (_one(row, fields, origin),)
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
