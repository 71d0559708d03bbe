"""JSON of every layout: a record per line, an array, a wrapper, records one after another."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

import orjson

from llm_installer.core.errors import DataError
from llm_installer.core.examples import Origin
from llm_installer.data.reading.json_errors import DecoderHooks, not_json
from llm_installer.data.reading.json_lossless import is_lossless
from llm_installer.data.reading.rows import Row, Source
from llm_installer.data.reading.text_files import Block, decoded, line_blocks
from llm_installer.data.reading.wrappers import is_one_record, records

_SPACE = re.compile(r"[ \t\r\n]*")


def json_rows(source: Source) -> Iterator[Row]:
    """The records of a .json, .jsonl or .ndjson file; its content decides the layout. Raises DataError."""
    in_lines, blocks = records_in_lines(source)
    if in_lines:
        return line_rows(source, blocks)
    found = list(blocks)
    offset = found[0].offset if found else 0
    return _document(source, Block(b"".join([block.data for block in found]), 1, offset))


def records_in_lines(source: Source) -> tuple[bool, Iterator[Block]]:
    """Whether each line of a file is a record, so that line_rows can read any part of it; and all blocks of lines."""
    blocks = line_blocks(source)
    ahead = [block for block in (next(blocks, None), next(blocks, None)) if block]
    return bool(ahead) and _is_one_a_line(ahead), chain(ahead, blocks)


def _is_one_a_line(ahead: list[Block]) -> bool:
    """Whether the first line is a record, or a record with a mistake in it, and other lines follow."""
    lines = [line for line in ahead[0].data.split(b"\n") if line.strip()]
    if not lines or (len(lines) < 2 and len(ahead) < 2):
        return False
    try:
        orjson.loads(lines[0])
    except orjson.JSONDecodeError:
        return not _continues(lines[0].decode(errors="replace"))
    return True


def _continues(line: str) -> bool:
    """Whether a line may be the beginning of a longer document."""
    try:
        json.loads(line)
    except json.JSONDecodeError as error:
        return error.pos >= len(line.rstrip())
    except (ValueError, RecursionError):
        return False
    return False


def line_rows(source: Source, blocks: Iterable[Block]) -> Iterator[Row]:
    """The records of blocks in which each line is one, with their line numbers. Raises DataError."""
    name, loads = source.name, orjson.loads
    for block in blocks:
        lines = block.data.split(b"\n")
        numbers: Sequence[int] = range(block.line, block.line + len(lines))
        if not lines[-1]:
            lines.pop()
        if not all(lines):
            numbers = [number for number, line in zip(numbers, lines, strict=False) if line]
            lines = [line for line in lines if line]
        try:
            values = [loads(line) for line in lines]
        except orjson.JSONDecodeError:
            values = None
        if values is not None and is_lossless(values, block.data):
            for number, value in zip(numbers, values, strict=False):
                yield Row(value, Origin(name, number))
        else:
            for number, line in zip(numbers, lines, strict=False):
                if not line.strip():
                    continue
                for _, value in _exact(_text(source, block, line), name, number):
                    yield Row(value, Origin(name, number))


def _document(source: Source, block: Block) -> Iterator[Row]:
    name = source.name
    try:
        value = orjson.loads(block.data)
        blank = block.data[: len(block.data) - len(block.data.lstrip())]
        values = [(1 + blank.count(b"\n"), value)] if is_lossless(value, block.data) else None
    except orjson.JSONDecodeError:
        values = None
    if values is None:
        values = _exact(decoded(source, block), name, block.line)
    if len(values) == 1 and not is_one_record(values[0][1]):
        for number, (record, part) in enumerate(records(values[0][1], name), 1):
            yield Row(record, Origin(name, record=number), part)
    else:
        for line, value in values:
            yield Row(value, Origin(name, line))


def _text(source: Source, block: Block, line: bytes) -> str:
    """A line of the block; where it is not text, the whole block is decoded to find the place."""
    try:
        return line.decode() if b"\0" not in line else decoded(source, block)
    except UnicodeDecodeError:
        return decoded(source, block)


def _exact(text: str, name: str, first_line: int) -> list[tuple[int, object]]:
    """Every value in a text with its line, by Python's slower decoder, which can say what is wrong."""
    hooks = DecoderHooks(name, text, first_line)
    decoder = json.JSONDecoder(object_pairs_hook=hooks.pairs, parse_constant=hooks.constant, parse_float=hooks.number)
    values: list[tuple[int, object]] = []
    position = _skip(text, 0)
    line, counted = first_line, 0
    while position < len(text):
        line, counted = line + text.count("\n", counted, position), position
        try:
            value, end = decoder.raw_decode(text, position)
            hooks.check_surrogates(value)
        except json.JSONDecodeError as error:
            if values and error.pos == position:
                error = json.JSONDecodeError("Extra data", text, position)
            raise _unclosed(error, name, first_line) or not_json(error, name, first_line) from None
        except RecursionError:
            raise DataError(f"{name}:{line}: brackets are nested too deeply; is this really a dataset?") from None
        except ValueError:
            raise DataError(f'{name}:{line}: a number is too long to read; write it as "text"') from None
        values.append((line, value))
        position = _skip(text, end)
    return values


def _skip(text: str, position: int) -> int:
    space = _SPACE.match(text, position)
    return space.end() if space else position


def _unclosed(error: json.JSONDecodeError, name: str, first_line: int) -> DataError | None:
    """The error when the decoder ran from an unclosed record into the next line, which is complete."""
    before, after = error.doc[: error.pos], error.doc[error.pos :].split("\n", 1)[0]
    if after[:1] != "{" or not before.startswith("{") or not before.endswith("\n") or not _is_json(after):
        return None
    line = first_line + before.rstrip().count("\n")
    return DataError(
        f"{name}:{line}: the record is not closed at the end of its line; add the missing brace or bracket"
    )


def _is_json(text: str) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True
