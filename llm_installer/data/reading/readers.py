"""READERS: how a source is read, by its suffix."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

from llm_installer.core.errors import DataError
from llm_installer.data.reading.arrow_rows import parquet_rows, saved_rows
from llm_installer.data.reading.hub import hub_rows
from llm_installer.data.reading.json_rows import json_rows
from llm_installer.data.reading.markup import toml_rows, yaml_rows
from llm_installer.data.reading.rows import Row, Source, data_suffix
from llm_installer.data.reading.tables import table_rows
from llm_installer.data.reading.text_files import plain_rows
from llm_installer.data.reading.xml_rows import xml_rows

__all__ = ["READERS", "Reader", "Row", "known_suffixes", "read_rows"]

Reader: TypeAlias = Callable[[Source], Iterator[Row]]

READERS: dict[str, Reader] = {
    ".json": json_rows,
    ".jsonl": json_rows,
    ".ndjson": json_rows,
    ".csv": table_rows,
    ".tsv": table_rows,
    ".txt": plain_rows,
    ".text": plain_rows,
    ".md": plain_rows,
    ".parquet": parquet_rows,
    ".yaml": yaml_rows,
    ".yml": yaml_rows,
    ".toml": toml_rows,
    ".xml": xml_rows,
}
"""How a file is read, by its suffix (with .gz after it or not)."""


def read_rows(source: Source) -> Iterator[Row]:
    """The records of a source with their origins, one at a time; none for an empty file. Raises DataError."""
    if source.hub:
        return hub_rows(source)
    if source.path.is_dir():
        return saved_rows(source)
    name = source.member or source.path.name
    reader = READERS.get(data_suffix(name))
    if reader is None:
        raise DataError(f"{source.name}: its name does not end like a data file; known endings are {known_suffixes()}")
    return reader(source)


def reads_json(source: Source) -> bool:
    """Whether the source is read as JSON, by its name."""
    name = source.member or source.path.name
    return not source.hub and READERS.get(data_suffix(name)) is json_rows and source.path.is_file()


def reads_text(source: Source) -> bool:
    """Whether the source is read as plain text, by its name."""
    name = source.member or source.path.name
    return not source.hub and READERS.get(data_suffix(name)) is plain_rows and source.path.is_file()


def known_suffixes() -> str:
    """The suffixes of data files, for a message."""
    return ", ".join(READERS) + " (each also with .gz) and .zip"
