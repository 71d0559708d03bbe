"""Examples on disk as memory-mapped Arrow: written as they are read, so that memory does not grow with the data."""

from __future__ import annotations

import json
import os
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias, get_args, overload

import numpy as np
from xxhash import xxh3_64_intdigest

from llm_installer.core.errors import DataError
from llm_installer.core.examples import Example, Kind, Message, Origin, Role
from llm_installer.data.keys import prompt_key, row_bytes
from llm_installer.data.splitting import Indices, Keys

if TYPE_CHECKING:
    import pyarrow as pa  # type: ignore[import-untyped]

Columns: TypeAlias = "tuple[Any, ...]"

ROLES: tuple[Role, ...] = get_args(Role)
KINDS: tuple[Kind, ...] = get_args(Kind)
_ROLE_CODES = {role: code for code, role in enumerate(ROLES)}
_KIND_CODES = {kind: code for code, kind in enumerate(KINDS)}
_BATCH_ROWS = 1024
_BATCH_BYTES = 1 << 24


def _schema() -> pa.Schema:
    import pyarrow as pa

    texts = [(name, pa.large_string()) for name in ("content", "tool_calls", "aside")]
    turn = pa.struct([("role", pa.uint8()), *texts])
    return pa.schema(
        [
            ("messages", pa.large_list(turn)),
            ("kind", pa.uint8()),
            ("tools", pa.large_string()),
            ("images", pa.large_list(pa.large_string())),
            ("file", pa.int32()),
            ("line", pa.int64()),
            ("record", pa.int64()),
            ("prompt_key", pa.uint64()),
            ("row_key", pa.uint64()),
        ]
    )


def _to_arrow(examples: list[Example], keys: list[tuple[int, int]], files: Sequence[str]) -> pa.RecordBatch:
    """A batch, column by column: list comprehensions over many rows are several times faster than row by row."""
    import pyarrow as pa

    schema, text, int64 = _schema(), pa.large_string(), pa.int64()
    turns = [turn for example in examples for turn in example.messages]
    turn_ends = accumulate((len(example.messages) for example in examples), initial=0)
    images = [image for example in examples for image in example.images]
    image_ends = accumulate((len(example.images) for example in examples), initial=0)
    origins = [example.origin for example in examples]
    codes = {name: code for code, name in enumerate(files)}
    spoken = pa.StructArray.from_arrays(
        [
            pa.array([_ROLE_CODES[turn.role] for turn in turns], pa.uint8()),
            pa.array([turn.content for turn in turns], text),
            pa.array([turn.tool_calls for turn in turns], text),
            pa.array([_aside(turn) for turn in turns], text),
        ],
        fields=list(schema.field("messages").type.value_type),
    )
    columns = [
        pa.LargeListArray.from_arrays(pa.array(list(turn_ends), int64), spoken),
        pa.array([_KIND_CODES[example.kind] for example in examples], pa.uint8()),
        pa.array([example.tools for example in examples], text),
        pa.LargeListArray.from_arrays(pa.array(list(image_ends), int64), pa.array(images, text)),
        pa.array([codes[origin.file] for origin in origins], pa.int32()),
        pa.array([origin.line for origin in origins], int64),
        pa.array([origin.record for origin in origins], int64),
        pa.array([key for key, _ in keys], pa.uint64()),
        pa.array([key for _, key in keys], pa.uint64()),
    ]
    return pa.record_batch(columns, schema=schema)


def _aside(turn: Message) -> str:
    """What few turns have, as one text: three columns would cost every row."""
    if turn.learn and not turn.tool_call_id and not turn.reasoning_content:
        return ""
    return json.dumps([turn.learn, turn.tool_call_id, turn.reasoning_content], ensure_ascii=False)


class _Batches:
    """Examples on their way into batches, which go to an Arrow writer."""

    def __init__(self, writer: Any) -> None:
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
            batch = _to_arrow(self._examples, self._keys, files)
            self._writer.write_batch(batch, custom_metadata={"files": json.dumps(files).encode()})
            self._examples, self._keys, self._bytes = [], [], 0


class ExampleWriter:
    """Writes examples to `path`. The file appears, whole, when the writer is closed; after an error it never does.

    It is not forced to disk: who needs to know that it survived a power cut compares its checksum.
    """

    def __init__(self, path: Path) -> None:
        import pyarrow as pa

        self._path = path
        self._unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
        self._sink = pa.OSFile(str(self._unfinished), "wb")
        self._writer = pa.ipc.new_file(self._sink, _schema())
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
        """Write what is left and give the file its name."""
        self._batches.flush()
        self._writer.close()
        self._sink.close()
        os.replace(self._unfinished, self._path)

    def discard(self) -> None:
        """Give up: nothing is left behind."""
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
    """Examples as bytes that another process adds to its store."""

    def __init__(self) -> None:
        import pyarrow as pa

        self._sink = pa.BufferOutputStream()
        self._writer = pa.ipc.new_stream(self._sink, _schema())
        self._batches = _Batches(self._writer)

    def append(self, example: Example) -> None:
        """Add an example."""
        self._batches.append(example)

    def packed(self) -> bytes:
        """All of them; no more can be added."""
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
        self._columns = [_columns(batch, metadata) for batch, metadata in found]
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
        return _example(self._columns[number], index - self._ends[number])

    def prompt_keys(self) -> Keys:
        """For every row the hash of its normalised prompt."""
        return self._keys("prompt_key")

    def row_keys(self) -> Keys:
        """For every row the hash of all of it, exactly."""
        return self._keys("row_key")

    def file_codes(self) -> tuple[tuple[str, ...], Indices]:
        """The files that rows are of, and for every row which of them."""
        names: dict[str, int] = {}
        codes = [np.empty(0, np.int64)]
        for batch, (*_, files) in zip(self._batches, self._columns, strict=True):
            known = np.array([names.setdefault(file, len(names)) for file in files], np.int64)
            codes.append(known[batch.column("file").to_numpy()])
        return tuple(names), np.concatenate(codes)

    def select(self, indices: Indices) -> ExampleView:
        """These rows, in this order, still on disk."""
        return ExampleView(self, indices)

    def _keys(self, column: str) -> Keys:
        if not self._batches:
            return np.empty(0, dtype=np.uint64)
        return np.concatenate([batch.column(column).to_numpy() for batch in self._batches])

    def __reduce__(self) -> tuple[type[ExampleStore], tuple[Path]]:
        # Another process maps the file itself; rows are never sent.
        return ExampleStore, (self.path,)


class ExampleView(Sequence[Example]):
    """Some rows of a store, in an order of their own."""

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


def _columns(batch: Any, metadata: Any) -> Columns:
    """A batch taken apart once, down to flat columns, so that reading a row is only indexing."""
    turns, images = batch.column("messages"), batch.column("images")
    fixed = [turns.offsets, turns.values.field("role"), images.offsets]
    fixed += [batch.column(name) for name in ("kind", "file", "line", "record")]
    spoken = [turns.values.field(name) for name in ("content", "tool_calls", "aside")]
    texts = (*spoken, batch.column("tools"), images.values)
    # A memoryview gives Python numbers, several times faster than numpy gives its own.
    return (*(memoryview(column.to_numpy()) for column in fixed), *texts, json.loads(metadata["files"]))


def _example(columns: Columns, row: int) -> Example:
    ends, roles, image_ends, kinds, file, line, record, contents, calls, asides, tools, images, files = columns
    turns = range(ends[row], ends[row + 1])
    return Example(
        messages=tuple([_message(roles[i], contents[i].as_py(), calls[i].as_py(), asides[i].as_py()) for i in turns]),
        origin=Origin(files[file[row]], line[row], record[row]),
        kind=KINDS[kinds[row]],
        tools=tools[row].as_py(),
        images=tuple([images[i].as_py() for i in range(image_ends[row], image_ends[row + 1])]),
    )


def _message(role: int, content: str, calls: str, aside: str) -> Message:
    return Message(ROLES[role], content, calls, *json.loads(aside)) if aside else Message(ROLES[role], content, calls)
