"""Examples on disk as memory-mapped Arrow: written as they are read, so that memory does not grow with the data."""

from __future__ import annotations

import json
import os
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, overload

import numpy as np
from xxhash import xxh3_64_intdigest

from llm_installer.core.arrays import Indices, Keys
from llm_installer.core.errors import DataError
from llm_installer.core.examples import Example
from llm_installer.data.store.columns import arrow_schema, example_at, flat_columns, numbers, to_arrow
from llm_installer.data.store.keys import prompt_key, row_bytes

if TYPE_CHECKING:
    import pyarrow as pa  # type: ignore[import-untyped]

_BATCH_ROWS = 1024
_BATCH_BYTES = 1 << 24


class _Batches:
    """Collects examples into batches and hands these to an Arrow writer."""

    def __init__(self, writer: pa.RecordBatchWriter) -> None:
        self._writer = writer
        self._examples: list[Example] = []
        self._keys: list[tuple[int, int]] = []
        self._bytes = 0

    def append(self, example: Example) -> None:
        row = row_bytes(example)
        self._keys.append((prompt_key(example), xxh3_64_intdigest(row)))
        self._examples.append(example)
        self._bytes += len(row)
        if len(self._examples) >= _BATCH_ROWS or self._bytes >= _BATCH_BYTES:
            self.flush()

    def flush(self) -> None:
        # File names travel with their batch, so that it can be read without the others.
        if self._examples:
            files = list(dict.fromkeys([example.origin.file for example in self._examples]))
            batch = to_arrow(self._examples, self._keys, files)
            self._writer.write_batch(batch, custom_metadata={"files": json.dumps(files).encode()})
            self._examples, self._keys, self._bytes = [], [], 0


class ExampleWriter:
    """Writes examples to `path`. The complete file appears when the writer is closed; after an error it never does.

    It is not forced to disk: whoever needs to know that it survived a power cut compares its checksum.
    """

    def __init__(self, path: Path) -> None:
        import pyarrow as pa

        self._path = path
        self._unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
        self._sink = pa.OSFile(str(self._unfinished), "wb")
        self._writer = pa.ipc.new_file(self._sink, arrow_schema())
        self._batches = _Batches(self._writer)

    def append(self, example: Example) -> None:
        """Add an example. Raises UnicodeEncodeError, and adds nothing, for text with half a surrogate pair."""
        self._batches.append(example)

    def append_packed(self, packed: bytes) -> None:
        """Add what an ExamplePacker packed."""
        import pyarrow as pa

        self._batches.flush()
        for batch, metadata in pa.ipc.open_stream(packed).iter_batches_with_custom_metadata():
            self._writer.write_batch(batch, custom_metadata=metadata)

    def close(self) -> None:
        """Write what is still in memory and give the file its name."""
        self._batches.flush()
        self._writer.close()
        self._sink.close()
        os.replace(self._unfinished, self._path)

    def discard(self) -> None:
        """Give up and leave nothing behind."""
        self._sink.close()
        self._unfinished.unlink(missing_ok=True)

    def __enter__(self) -> ExampleWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()


class ExamplePacker:
    """Examples as bytes, for another process to add to its store."""

    def __init__(self) -> None:
        import pyarrow as pa

        self._sink = pa.BufferOutputStream()
        self._writer = pa.ipc.new_stream(self._sink, arrow_schema())
        self._batches = _Batches(self._writer)

    def append(self, example: Example) -> None:
        """Add an example. Raises UnicodeEncodeError for text with half a surrogate pair."""
        self._batches.append(example)

    def packed(self) -> bytes:
        """The bytes of all of them; no more can be added."""
        self._batches.flush()
        self._writer.close()
        return bytes(self._sink.getvalue())


class ExampleStore(Sequence[Example]):
    """The examples in an Arrow file, read one at a time from the memory map."""

    def __init__(self, path: Path) -> None:
        """Open a store. Raises DataError when it is missing or damaged."""
        import pyarrow as pa

        self.path = path
        try:
            reader = pa.ipc.open_file(pa.memory_map(str(path)))
            found = [reader.get_batch_with_custom_metadata(i) for i in range(reader.num_record_batches)]
        except (OSError, pa.ArrowInvalid) as error:
            raise DataError(f"{path} is damaged ({error}); delete it and run the command again") from None
        self._batches = [batch for batch, _ in found]
        self._columns = [flat_columns(batch, metadata) for batch, metadata in found]
        self._ends: list[int] = [0, *accumulate(batch.num_rows for batch in self._batches)]

    def __len__(self) -> int:
        return self._ends[-1]

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> ExampleView: ...
    def __getitem__(self, index: int | slice) -> Example | ExampleView:
        if isinstance(index, slice):
            return self.select(np.arange(len(self))[index])
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        number = bisect_right(self._ends, index) - 1
        return example_at(self._columns[number], index - self._ends[number])

    def prompt_keys(self) -> Keys:
        """For every example the hash of its normalised prompt, shape [examples]."""
        return self._keys("prompt_key")

    def row_keys(self) -> Keys:
        """For every example the hash of the whole of it, shape [examples]."""
        return self._keys("row_key")

    def file_codes(self) -> tuple[tuple[str, ...], Indices]:
        """The files that the examples come from, and for every example the index of its file."""
        names: dict[str, int] = {}
        codes = [np.empty(0, np.int64)]
        for batch, columns in zip(self._batches, self._columns, strict=True):
            known = np.array([names.setdefault(file, len(names)) for file in columns.files], np.int64)
            codes.append(known[numbers(batch.column("file")).astype(np.int64)])
        return tuple(names), np.concatenate(codes)

    def select(self, indices: Indices) -> ExampleView:
        """These examples, in this order, still on disk."""
        return ExampleView(self, indices)

    def _keys(self, column: str) -> Keys:
        if not self._batches:
            return np.empty(0, dtype=np.uint64)
        return np.concatenate([numbers(batch.column(column)).view(np.uint64) for batch in self._batches])

    def __reduce__(self) -> tuple[type[ExampleStore], tuple[Path]]:
        # Another process maps the file itself; examples are never sent.
        return ExampleStore, (self.path,)


class ExampleView(Sequence[Example]):
    """Some examples of a store, in an order of their own."""

    def __init__(self, store: ExampleStore, indices: Indices) -> None:
        self.store = store
        self.indices = indices

    def __len__(self) -> int:
        return len(self.indices)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> ExampleView: ...
    def __getitem__(self, index: int | slice) -> Example | ExampleView:
        if isinstance(index, slice):
            return ExampleView(self.store, self.indices[index])
        return self.store[int(self.indices[index])]
