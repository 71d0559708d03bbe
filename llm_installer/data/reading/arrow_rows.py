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
    from pyarrow import RecordBatch  # type: ignore[import-untyped]

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
            yield from _rows(source, pq.ParquetFile(stream).iter_batches(_BATCH_ROWS))
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
        yield from _rows(source, _saved_batches(files))
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


def _rows(source: Source, batches: Iterator[RecordBatch]) -> Iterator[Row]:
    number = 0
    for batch in batches:
        names = batch.schema.names
        if len(set(names)) < len(names):
            listed = shortened(", ".join(names), 200)
            raise DataError(f"{source.name}: two columns have the same name ({listed}); rename one of them")
        for start in range(0, batch.num_rows, _BATCH_ROWS):
            for record in batch.slice(start, _BATCH_ROWS).to_pylist():
                number += 1
                yield Row(record, Origin(source.name, record=number), source.part)


def _unreadable(source: Source, error: Exception) -> DataError:
    if isinstance(error, PermissionError):
        return broken(source.name, error)
    return DataError(
        f"{source.name} is damaged, or not what its name says ({shortened(str(error), 120)}); copy or download it again"
    )
