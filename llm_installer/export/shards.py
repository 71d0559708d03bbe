"""Safetensors files read and written a few rows at a time, so that no tensor has to be in memory as a whole."""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from llm_installer.core.errors import DiskError
from llm_installer.core.files import sync, unwritable
from llm_installer.core.safetensors import TensorHeader
from llm_installer.export.changes import Rows

CHUNK = 4 << 20
"""Bytes of float32 that are in memory for each step of the arithmetic."""
FLOATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
"""Types that can be changed into each other; tensors of all others are copied as they are."""
NAMES = {kind: name for name, kind in FLOATS.items()}


@dataclass(frozen=True)
class Source:
    """A tensor in a file."""

    file: Path
    header: TensorHeader
    start: int
    """Of the first tensor of the file, in bytes."""

    @property
    def count(self) -> int:
        """How many rows there are; a single number is one."""
        return self.header.shape[0] if self.header.shape else 1

    def data(self, start: int, stop: int) -> bytearray:
        """The content of some rows."""
        each = (self.header.end - self.header.start) // max(1, self.count)
        found = bytearray((stop - start) * each)
        with self.file.open("rb", buffering=0) as data:
            data.seek(self.start + self.header.start + start * each)
            view = memoryview(found)
            while view and (read := data.readinto(view)):
                view = view[read:]
        return found

    def rows(self, start: int, stop: int) -> Tensor:
        """Some rows of a tensor of one of FLOATS, in its own type."""
        data = self.data(start, stop)
        shape = (stop - start, *self.header.shape[1:])
        if not data:
            return torch.empty(shape, dtype=FLOATS[self.header.dtype])
        found = torch.frombuffer(data, dtype=FLOATS[self.header.dtype])
        return found.view(shape if self.header.shape else ())

    def floats(self, start: int, stop: int) -> Tensor:
        """The same in float32."""
        return self.rows(start, stop).float()


@dataclass(frozen=True)
class Output:
    """A tensor to be written."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    rows: Rows
    """Some of its rows, in the type in which they are written; bytes where that is none of FLOATS."""
    bytes_each: int
    """Of a row, as it is written."""

    @property
    def count(self) -> int:
        return self.shape[0] if self.shape else 1

    @property
    def bytes(self) -> int:
        return self.count * self.bytes_each


def first_byte(file: Path) -> int:
    """Where the first tensor of a file begins."""
    with file.open("rb") as data:
        return 8 + int(struct.unpack("<Q", data.read(8))[0])


def spans(count: int, shape: Sequence[int]) -> list[tuple[int, int]]:
    """The (start, stop) of the rows of each step, for a tensor of this shape."""
    each = 4 * math.prod(shape[1:])
    step = max(1, CHUNK // max(1, each))
    return [(start, min(count, start + step)) for start in range(0, count, step)]


def write_file(file: Path, outputs: Sequence[Output]) -> str:
    """Write a complete file, its tensors one after the other. Returns its sha256; raises DiskError."""
    # The format's own library wants each number at a multiple of its size, so the largest types come first.
    ordered = sorted(outputs, key=lambda each: -_size(each.dtype))
    digest = hashlib.sha256()
    try:
        with file.open("wb") as out:
            for data in _content(ordered):
                digest.update(data)
                out.write(data)
            out.flush()
            sync(out.fileno())
    except DiskError:
        raise
    except OSError as error:
        raise unwritable(file, error) from None
    return digest.hexdigest()


def _size(dtype: str) -> int:
    return int("".join(c for c in dtype.partition("_")[0] if c.isdigit()) or 8)


def _as_bytes(rows: Tensor) -> memoryview:
    """The memory of a tensor, without a copy where it lies in one piece."""
    return rows.contiguous().reshape(-1).view(torch.uint8).numpy().data


def _content(outputs: Sequence[Output]) -> Iterator[bytes | memoryview]:
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for each in outputs:
        entries[each.name] = {"dtype": each.dtype, "shape": list(each.shape), "data_offsets": [end, end + each.bytes]}
        end += each.bytes
    head = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    head += b" " * (-len(head) % 8)
    yield struct.pack("<Q", len(head)) + head
    for each in outputs:
        for start, stop in spans(each.count, each.shape):
            yield _as_bytes(each.rows(start, stop))
