"""Parquet files and folders of datasets.save_to_disk: rows as Python values, a batch at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from llm_installer.core.errors import DataError
from llm_installer.core.examples import Origin
from llm_installer.core.text import shortened
from llm_installer.data.reading.archives import broken, byte_blocks, is_compressed
from llm_installer.data.reading.rows import Row, Source
from llm_installer.data.reading.text_files import check_signature

if TYPE_CHECKING:
    from pyarrow import Array, RecordBatch  # type: ignore[import-untyped]

_BATCH_ROWS = 1024
_MAGIC = b"PAR1"
_NOT_PYTHON = (ValueError, OverflowError)
"""What Arrow raises for values that Python cannot hold: text that is not UTF-8, dates after the year 9999."""
STATE = "state.json"
"""What save_to_disk leaves in a dataset's folder, beside the Arrow files."""
DATASET_DICT = "dataset_dict.json"
"""What it leaves in a folder of several splits, each a folder."""


def parquet_rows(source: Source) -> Iterator[Row]:
    """The rows of a parquet file as dicts; nulls are None, nested values are lists and dicts. Raises DataError."""
    import pyarrow as pa
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    with ExitStack() as stack:
        try:
            if is_compressed(source):
                stream = pa.BufferReader(b"".join(byte_blocks(source)))
            else:
                stream = stack.enter_context(source.path.open("rb"))
                if not (beginning := stream.peek(64)).startswith(_MAGIC):
                    check_signature(source, beginning)
            yield from batch_rows(source, pq.ParquetFile(stream).iter_batches(_BATCH_ROWS))
        except (pa.ArrowException, OSError, *_NOT_PYTHON) as error:
            raise _unreadable(source, error) from None


def saved_rows(source: Source) -> Iterator[Row]:
    """The rows of a dataset that datasets.save_to_disk wrote, read without that library. Raises DataError."""
    import pyarrow as pa

    try:
        state = json.loads((source.path / STATE).read_text("utf-8"))
        files = [source.path / entry["filename"] for entry in state["_data_files"]]
    except (OSError, ValueError, KeyError, TypeError):
        raise DataError(f"{source.name}/{STATE} is damaged; save the dataset again with save_to_disk") from None
    try:
        yield from batch_rows(source, _saved_batches(files))
    except (pa.ArrowException, OSError, *_NOT_PYTHON) as error:
        raise _unreadable(source, error) from None


def saved_splits(folder: Path, shown: str) -> list[str]:
    """The splits of a folder that was saved as a DatasetDict; none when it is a single dataset. Raises DataError."""
    listing = folder / DATASET_DICT
    if not listing.is_file():
        return []
    try:
        splits = [str(split) for split in json.loads(listing.read_text("utf-8"))["splits"]]
    except (OSError, ValueError, KeyError, TypeError):
        splits = []
    if not splits:
        raise DataError(f"{shown}/{DATASET_DICT} is damaged; save the dataset again with save_to_disk")
    return splits


def _saved_batches(files: list[Path]) -> Iterator[RecordBatch]:
    import pyarrow as pa

    for file in files:
        with pa.memory_map(str(file)) as stream, pa.ipc.open_stream(stream) as batches:
            yield from batches


def batch_rows(source: Source, batches: Iterator[RecordBatch]) -> Iterator[Row]:
    """The rows of batches one after another, with their numbers. Raises DataError for two columns of one name."""
    number = 0
    for batch in batches:
        names = batch.schema.names
        if len(set(names)) < len(names):
            listed = shortened(", ".join(names), 200)
            raise DataError(f"{source.name}: two columns have the same name ({listed}); rename one of them")
        padded = [name for name, column in zip(names, batch.columns, strict=True) if _may_be_padded(column)]
        for start in range(0, batch.num_rows, _BATCH_ROWS):
            for record in batch.slice(start, _BATCH_ROWS).to_pylist():
                number += 1
                for name in padded:
                    record[name] = without_padding(record[name])
                yield Row(record, Origin(source.name, record=number), source.part)


def _may_be_padded(column: Array) -> bool:
    """Whether there is a null in an object of a column. Without any there is nothing to look for row by row."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_struct(kind):
        fields = [column.field(number) for number in range(kind.num_fields)]
        return any(field.null_count or _may_be_padded(field) for field in fields)
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(is_list(kind) for is_list in lists) and _may_be_padded(column.values)


def without_padding(value: object, inside: str = "") -> object:
    """A value from a table without the nulls in its objects, however deep; `inside` is the key that it is under.

    The objects of a column have all the keys that any of them has, with null where one had none: the arguments of a
    call would be given to every other call as null. A null that was meant looks the same, and means the same. Below
    "properties" of a tool, some writers pad with an object of nulls.
    """
    if isinstance(value, list):
        return [without_padding(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    sound = {key: without_padding(inner, key) for key, inner in value.items() if inner is not None}
    return {key: inner for key, inner in sound.items() if inside != "properties" or inner != {} or not value[key]}


def _unreadable(source: Source, error: Exception) -> DataError:
    if isinstance(error, PermissionError):
        return broken(source.name, error)
    return DataError(
        f"{source.name} is damaged, or not what its name says ({shortened(str(error), 120)}); copy or download it again"
    )
