"""CSV and TSV: the delimiter is detected, the first line must name the columns, and every cell stays text."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, islice

from llm_installer.core.errors import DataError
from llm_installer.core.examples import Origin
from llm_installer.core.text import counted, shortened
from llm_installer.data.reading.rows import Row, Source, data_suffix
from llm_installer.data.reading.text_files import text_lines

_DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
_SAMPLE_LINES = 100
_NUMBER = re.compile(r"[+-]?\d+([.,]\d+)?")
_LONG = 80
_WORDS = 8
_MISTAKES = (
    ("unexpected end", 'a cell begins with " and is never closed'),
    ("expected after", 'a " inside a quoted cell; write it twice ("")'),
    ("new-line", "a carriage return inside a line; put quotes around that cell"),
)


@dataclass(frozen=True)
class _Shape:
    """How the lines of a table are divided."""

    delimiter: str
    space_after: bool


def table_rows(source: Source) -> Iterator[Row]:
    """The rows of a table as dicts of str, each with the line on which it begins. Raises DataError."""
    csv.field_size_limit(2**31 - 1)
    lines = (text for _, text in text_lines(source))
    sample = list(islice(lines, _SAMPLE_LINES))
    shape = _shape(sample, data_suffix(source.member or source.path.name))
    records = _records(source, chain(sample, lines), shape)
    _, header = next(records, (0, []))
    names = [name.strip() for name in header]
    if names:
        _check_header(source, names, shape)
    for line, cells in records:
        if len(cells) != len(names):
            raise _wrong_width(source, line, cells, names, shape)
        yield Row(dict(zip(names, cells, strict=True)), Origin(source.name, line))


def _shape(sample: list[str], suffix: str) -> _Shape:
    """The delimiter that divides the first record into columns, and most others into as many."""
    fits: dict[str, tuple[float, int]] = {}
    headers: dict[str, list[str]] = {}
    for delimiter in _DELIMITERS:
        records: list[list[str]] = []
        with suppress(csv.Error):  # reported when the line is read again
            records.extend(cells for cells in csv.reader(sample, delimiter=delimiter) if cells)
        if len(records) > 2 and len(sample) == _SAMPLE_LINES:
            records.pop()  # the sample may end inside it
        if records and len(records[0]) > 1:
            headers[delimiter] = records[0]
            same = sum(len(cells) == len(records[0]) for cells in records)
            fits[delimiter] = same / len(records), len(records[0])
    if not fits:
        return _Shape("\t" if suffix == ".tsv" else ",", False)
    best = max(fits, key=lambda delimiter: fits[delimiter])
    return _Shape(best, all(name.startswith(" ") for name in headers[best][1:]))


def _records(source: Source, lines: Iterator[str], shape: _Shape) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(lines, delimiter=shape.delimiter, strict=True, skipinitialspace=shape.space_after)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            advice = next((text for start, text in _MISTAKES if start in str(error)), str(error))
            raise DataError(f"{source.name}:{line}: {advice}, in the row that begins here") from None
        if cells is None:
            return
        if cells:
            yield line, cells


def _check_header(source: Source, names: list[str], shape: _Shape) -> None:
    if any(_is_data(name) for name in names):
        shown = shortened(shape.delimiter.join(names), 80)
        raise DataError(
            f"{source.name} has no line with column names: its first row is {shown!r}; add a first line such as "
            f'"question{shape.delimiter}answer" (other names can be mapped with --columns)'
        )
    for number, name in enumerate(names, 1):
        if not name:
            raise DataError(
                f"{source.name}: column {number} has no name ({shortened(shape.delimiter.join(names), 80)!r}); "
                f"name it in the first line, or remove the column"
            )
        if name in names[: number - 1]:
            raise DataError(f'{source.name}: two columns have the name "{shortened(name, 40)}"; rename one of them')


def _is_data(cell: str) -> bool:
    """Whether a cell of the first line looks like content, not like the name of a column."""
    return (
        len(cell) > _LONG
        or "\n" in cell
        or _NUMBER.fullmatch(cell) is not None
        or len(cell.split()) > _WORDS
        or (" " in cell and cell.endswith((".", "!", "?")))
        or cell.startswith(("{", "["))
    )


def _wrong_width(source: Source, line: int, cells: list[str], names: list[str], shape: _Shape) -> DataError:
    delimiter = _DELIMITERS[shape.delimiter]
    advice = f'put " around cells that contain a {delimiter}' if len(cells) > len(names) else "add the missing ones"
    columns = shortened(shape.delimiter.join(names), 80)
    return DataError(
        f"{source.name}:{line}: {counted(len(cells), 'cell')} where the first line names {len(names)} ({columns}); "
        f"{advice}"
    )
