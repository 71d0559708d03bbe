"""Examples as columns of Arrow batches, and back again one by one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from llm_installer.core.examples import Example, Kind, Message, Origin, Role

if TYPE_CHECKING:
    import pyarrow as pa  # type: ignore[import-untyped]

Codes: TypeAlias = "memoryview[int]"


class Columns(NamedTuple):
    """A batch of examples as flat columns; those of texts are Arrow's."""

    ends: Codes
    """Where the turns of each row end, with a 0 in front."""
    roles: Codes
    """By turn, like `contents`, `calls` and `asides`."""
    image_ends: Codes
    """Where the images of each row end, with a 0 in front."""
    kinds: Codes
    file: Codes
    """Index into `files`."""
    line: Codes
    record: Codes
    contents: pa.Array
    calls: pa.Array
    asides: pa.Array
    tools: pa.Array
    images: pa.Array
    files: list[str]


ROLES: tuple[Role, ...] = get_args(Role)
KINDS: tuple[Kind, ...] = get_args(Kind)
_ROLE_CODES = {role: code for code, role in enumerate(ROLES)}
_KIND_CODES = {kind: code for code, kind in enumerate(KINDS)}
_GOES_ON = 0x10
"""Added to the kind of a text that does not end."""


def arrow_schema() -> pa.Schema:
    """The columns of a store."""
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


def to_arrow(examples: list[Example], keys: list[tuple[int, int]], files: Sequence[str]) -> pa.RecordBatch:
    """A batch, column by column: list comprehensions over many rows are several times faster than row by row."""
    import pyarrow as pa

    schema, text, int64 = arrow_schema(), pa.large_string(), pa.int64()
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
        pa.array([_KIND_CODES[e.kind] | (0 if e.ends else _GOES_ON) for e in examples], pa.uint8()),
        pa.array([example.tools for example in examples], text),
        pa.LargeListArray.from_arrays(pa.array(list(image_ends), int64), pa.array(images, text)),
        pa.array([codes[origin.file] for origin in origins], pa.int32()),
        pa.array([origin.line for origin in origins], int64),
        pa.array([origin.record for origin in origins], int64),
        pa.array([key for key, _ in keys], pa.uint64()),
        pa.array([key for _, key in keys], pa.uint64()),
    ]
    return pa.record_batch(columns, schema=schema)


def numbers(column: pa.Array) -> npt.NDArray[np.generic]:
    """A column of numbers, none of them missing, as an array over the same memory. Arrow's own way imports pandas."""
    place, dtype = column.buffers()[1], np.dtype(str(column.type))
    return np.frombuffer(place or b"", dtype, len(column), column.offset * dtype.itemsize if len(column) else 0)


def flat_columns(batch: pa.RecordBatch, metadata: Mapping[str, bytes]) -> Columns:
    """A batch taken apart once, down to flat columns, so that reading an example is only indexing."""
    turns, images = batch.column("messages"), batch.column("images")

    def plain(column: pa.Array) -> Codes:
        # A memoryview gives Python numbers, several times faster than numpy gives its own.
        return numbers(column).data

    return Columns(
        ends=plain(turns.offsets),
        roles=plain(turns.values.field("role")),
        image_ends=plain(images.offsets),
        kinds=plain(batch.column("kind")),
        file=plain(batch.column("file")),
        line=plain(batch.column("line")),
        record=plain(batch.column("record")),
        contents=turns.values.field("content"),
        calls=turns.values.field("tool_calls"),
        asides=turns.values.field("aside"),
        tools=batch.column("tools"),
        images=images.values,
        files=json.loads(metadata["files"]),
    )


def example_at(columns: Columns, row: int) -> Example:
    """A row of the batch that flat_columns took apart."""
    ends, roles, image_ends, kinds, file, line, record, contents, calls, asides, tools, images, files = columns
    turns = range(ends[row], ends[row + 1])
    return Example(
        messages=tuple([_message(roles[i], contents[i].as_py(), calls[i].as_py(), asides[i].as_py()) for i in turns]),
        origin=Origin(files[file[row]], line[row], record[row]),
        kind=KINDS[kinds[row] & ~_GOES_ON],
        ends=not kinds[row] & _GOES_ON,
        tools=tools[row].as_py(),
        images=tuple([images[i].as_py() for i in range(image_ends[row], image_ends[row + 1])]),
    )


def _message(role: int, content: str, calls: str, aside: str) -> Message:
    return Message(ROLES[role], content, calls, *json.loads(aside)) if aside else Message(ROLES[role], content, calls)


def _aside(turn: Message) -> str:
    """What few turns have, as one text: columns of their own would cost space in every row."""
    if turn.supervised and not turn.tool_call_id and not turn.reasoning_content:
        return ""
    return json.dumps([turn.supervised, turn.tool_call_id, turn.reasoning_content], ensure_ascii=False)
