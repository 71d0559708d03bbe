"""Rows in memory, as Python has them: read from files, put in an order, and written where a training can read them."""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TypeAlias

from llm_installer.core.errors import DataError, UsageError
from llm_installer.core.files import unwritable, write_text
from llm_installer.core.home import cache_dir
from llm_installer.core.text import shortened
from llm_installer.data.fix import plain
from llm_installer.data.reading.readers import READERS, known_suffixes, read_rows
from llm_installer.data.reading.rows import Source, data_suffix
from llm_installer.data.reading.sources import find_sources
from llm_installer.data.store.load import DataRequest, load_examples

Record: TypeAlias = dict[str, object]
Records: TypeAlias = Sequence[Mapping[str, object]]
Data: TypeAlias = "str | Path | Sequence[str | Path] | Records"
TEXT = "text"


def texts_of(source: str | Path, text_field: str, chunk_words: int, file_type: str | None) -> list[str]:
    """The texts of a source, stripped, without empty ones and exact copies, in order; cut into pieces of so many words
    where that is not 0.

    Raises DataError where it cannot be read, a record has no such field, or nothing is left.
    """
    found: dict[str, None] = {}
    for each in _sources(str(source), file_type):
        reader = READERS[f".{file_type}"] if file_type else read_rows
        for row in reader(each):
            text = _text(row.value, text_field, str(row.origin))
            found.update(dict.fromkeys(_pieces(text, chunk_words)))
    if not found:
        raise DataError(f"There is no text in {source}; give a file or folder that has some")
    return [*found]


def _sources(given: str, file_type: str | None) -> list[Source]:
    if file_type is None:
        return find_sources(given, Path.cwd())[0]
    if f".{file_type}" not in READERS:
        raise UsageError(f"file_type={file_type!r} is no kind of file that can be read; there are {known_suffixes()}")
    path = Path(given).expanduser().absolute()
    if path.is_file():
        return [Source(path, given)]
    found = [each for each in find_sources(given, Path.cwd())[0] if data_suffix(each.name) == f".{file_type}"]
    if not found:
        raise DataError(f"There is no .{file_type} file in {given}; leave file_type out to read all files")
    return found


def _text(value: object, field: str, origin: str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping) and isinstance(text := value.get(field), str):
        return text
    has = shortened(", ".join(map(str, value)), 100) if isinstance(value, Mapping) else "no fields"
    raise DataError(f"{origin}: there is no text in a field {field!r}; the record has {has}")


def _pieces(text: str, words: int) -> Iterator[str]:
    found = text.split()
    if not words:
        yield from [text.strip()] if found else []
        return
    for start in range(0, len(found), words):
        yield " ".join(found[start : start + words])


def some_records(source: str, most: int | None) -> list[Record]:
    """The first records of a source that can be trained on, each in the shape that every tool reads.

    Raises DataError where nothing can be read.
    """
    examples = load_examples(DataRequest(source, Path.cwd())).train
    return [plain(each) for each in islice(examples, most)]


def records_of(data: Data) -> list[Record]:
    """All records of rows or files, as some_records has those of files."""
    if rows := rows_in_memory(data):
        return rows
    return some_records(data if isinstance(data, str) else ",".join(_names(data)), None)


def _names(data: Path | Iterable[object]) -> list[str]:
    return [str(data)] if isinstance(data, Path) else [str(each) for each in data]


def rows_in_memory(data: object) -> list[Record]:
    """Records that are in memory already: a list of dicts, or anything else that goes through dicts; else nothing.

    Raises UsageError for records among names of files.
    """
    if not isinstance(data, Iterable) or isinstance(data, str | os.PathLike | Mapping):
        return []
    items = [dict(each) if isinstance(each, Mapping) else each for each in data]
    rows = [each for each in items if isinstance(each, dict)]
    if rows and len(rows) != len(items):
        raise UsageError("The data mix records and names of files; give the ones or the others")
    return rows


def as_file(data: object) -> object:
    """The file that records in memory are written to, named after their content; other data as they are.

    Raises DataError for records that JSON has no words for, and DiskError.
    """
    rows = rows_in_memory(data)
    if not rows:
        return data
    try:
        text = "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
        name = hashlib.sha256(text.encode()).hexdigest()[:16]
    except (TypeError, ValueError) as error:
        raise DataError(f"The records hold what cannot be written as JSON ({error}); turn it into text first") from None
    file = cache_dir() / "rows" / f"{name}.jsonl"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(file.parent, error) from None
    write_text(file, text)
    return file


def said_by(row: Mapping[str, object]) -> str:
    """All texts of a record, one below the other."""
    return "\n".join(_strings(row))


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, each in value.items():
            if key not in ("role", "from"):
                yield from _strings(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _strings(each)


def in_order(rows: Iterable[Record], difficulty: Callable[[str], float]) -> list[Record]:
    """Rows from easy to hard by what `difficulty` says of their text; equal ones stay as they are.

    Raises UsageError where it says something else than a number.
    """
    rated = []
    for number, row in enumerate(rows, 1):
        text = row.get(TEXT)
        found = difficulty(text if isinstance(text, str) else said_by(row))
        if isinstance(found, bool) or not isinstance(found, int | float) or found != found:
            raise UsageError(f"The difficulty of row {number} is {found!r}; the function has to return a number")
        rated.append((found, row))
    return [row for _, row in sorted(rated, key=lambda each: each[0])]


def shuffled(rows: Sequence[Record], seed: int) -> list[Record]:
    """The rows in an order that depends on the seed alone."""
    found = [*rows]
    random.Random(seed).shuffle(found)
    return found


def with_prefix(row: Mapping[str, object], prefix: str) -> Record:
    """The record with `prefix` and a space before its text, its prompt or its first user turn.

    Raises UsageError for a record that has none of these.
    """
    for key in (TEXT, "prompt", "instruction", "question", "input"):
        if isinstance(text := row.get(key), str):
            return {**row, key: f"{prefix} {text}"}
    given = row.get("messages")
    turns = given if isinstance(given, list) else []
    for number, turn in enumerate(turns):
        if isinstance(turn, Mapping) and turn.get("role") == "user" and isinstance(turn.get("content"), str):
            marked = {**turn, "content": f"{prefix} {turn['content']}"}
            return {**row, "messages": [*turns[:number], marked, *turns[number + 1 :]]}
    raise UsageError(f"A record with {shortened(', '.join(row), 100)} has no prompt to put a task before")
