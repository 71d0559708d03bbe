"""Conversion by several processes: lines of one big file go out, packed examples come back, in order."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, field, replace
from functools import partial

from llm_installer.core.errors import DataError
from llm_installer.core.examples import Dropped, Example
from llm_installer.core.workers import cores, parallel_map
from llm_installer.data.formats import find_format
from llm_installer.data.reading.json_rows import line_rows, records_in_lines
from llm_installer.data.reading.readers import reads_json
from llm_installer.data.reading.rows import Row, Source
from llm_installer.data.reading.text_files import Block
from llm_installer.data.store.arrow import ExamplePacker
from llm_installer.data.store.conversion import Conversion, Count, Waiting, converted

_PAYS = 32 << 20
"""Bytes above which starting processes takes less time than it saves."""
_CHUNK = 4 << 20
"""Bytes that a process is sent at once."""
_MOST = 4
"""Processes: the caller, who reads and writes, cannot keep more of them busy."""


@dataclass(frozen=True)
class Chunk:
    """Some lines, and the error that follows them, if any."""

    blocks: tuple[Block, ...]
    error: DataError | None = None


@dataclass(frozen=True)
class Converted:
    """What became of a chunk."""

    count: Count
    stores: dict[str, bytes] = field(default_factory=dict)
    """Packed examples by the part they are for."""
    dropped: list[Dropped] = field(default_factory=list)
    waiting: Waiting = field(default_factory=dict)
    error: DataError | None = None
    """What stopped it, after everything that was skipped."""


def convert_apart(source: Source, conversion: Conversion) -> Generator[Converted, None, None] | None:
    """The source converted by several processes; None when it is not a big file of lines, or there is only one core."""
    count = min(cores(), _MOST)
    if count < 2 or not reads_json(source) or source.path.stat().st_size < _PAYS:
        return None
    a_line_each, blocks = records_in_lines(source)
    if not a_line_each:
        return None
    # A format is functions, and those are known to the other process by name.
    told = replace(conversion, sources=(), forced=None)
    job = partial(convert_chunk, source, told, conversion.forced.name if conversion.forced else "")
    return parallel_map(job, _chunks(blocks), count)


def convert_chunk(source: Source, conversion: Conversion, forced: str, chunk: Chunk) -> Converted:
    """In another process: what is in the lines."""
    if forced:
        conversion = replace(conversion, forced=find_format(forced))
    found = Converted(Count(source.name))
    packers: dict[str, ExamplePacker] = {}
    error = None
    try:
        for part, item in converted(source, _rows(source, chunk), conversion, found.count, found.waiting):
            if isinstance(item, Example):
                if part not in packers:
                    packers[part] = ExamplePacker()
                packers[part].append(item)
            else:
                found.dropped.append(item)
    except DataError as stopped:
        error = stopped
    return replace(found, stores={part: packer.packed() for part, packer in packers.items()}, error=error)


def _rows(source: Source, chunk: Chunk) -> Iterator[Row]:
    yield from line_rows(source, chunk.blocks)
    if chunk.error:
        raise chunk.error


def _chunks(blocks: Iterator[Block]) -> Iterator[Chunk]:
    ready: list[Block] = []
    size = 0
    try:
        for block in blocks:
            ready.append(block)
            size += len(block.data)
            if size >= _CHUNK:
                yield Chunk(tuple(ready))
                ready, size = [], 0
    except DataError as error:
        # The lines before it have their own errors, which come first.
        yield Chunk(tuple(ready), error)
        return
    if ready:
        yield Chunk(tuple(ready))
