"""The headers of safetensors files: names, dtypes and shapes of tensors, read without their weights.

Format: https://huggingface.co/docs/safetensors/index (an 8-byte little-endian length, then JSON of that length). What
the format demands is checked as the library does, since it refuses with words that help nobody.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

from llm_installer.core.errors import ModelError
from llm_installer.core.json_file import AGAIN, is_pointer, parse_object, pointer
from llm_installer.core.text import short_path, shortened

_LONGEST = 100_000_000
"""The library reads no longer header."""
_BITS = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("I8", "U8", "BOOL"), 8),
    **dict.fromkeys(("F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}
"""Bits of a number of each dtype."""


@dataclass(frozen=True, slots=True)
class TensorHeader:
    """What is known of a tensor before its weights are read."""

    dtype: str
    """In the format's own words, such as BF16."""
    shape: tuple[int, ...]
    start: int
    """Bytes from the end of the header to the tensor."""
    end: int
    """Bytes from the end of the header to the end of the tensor."""


def read_header(file: Path) -> dict[str, TensorHeader]:
    """The tensors of a safetensors file, by name.

    Raises ModelError when its header cannot be read or contradicts itself, or the file is shorter or longer than its
    header says.
    """
    shown = short_path(file)
    try:
        with file.open("rb") as data:
            head = data.read(8)
            if is_pointer(head + data.read(92)):
                raise ModelError(pointer(shown))
            length = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
            data.seek(8)
            body = data.read(length) if 0 < length <= _LONGEST else b""
        rest = file.stat().st_size - 8 - length
    except OSError as error:
        raise ModelError(f"{shown} cannot be read ({error.strerror})") from None
    if not body.startswith(b"{") or len(body) < length:
        raise _damaged(shown, "its header cannot be read")
    try:
        entries = parse_object(body.decode("utf-8"), shown)
    except (ModelError, UnicodeDecodeError):
        raise _damaged(shown, "its header cannot be read") from None
    found = {name: _tensor(shown, name, entry) for name, entry in entries.items() if name != "__metadata__"}
    end = _end(shown, found)
    if rest < end:
        raise ModelError(f"{shown} is truncated; {AGAIN}")
    if rest > end:
        raise _damaged(shown, "it is longer than its header says")
    return found


def _tensor(shown: str, name: str, entry: object) -> TensorHeader:
    """One entry of a header. Raises ModelError for what the format does not allow."""
    values = entry if isinstance(entry, dict) else {}
    dtype, shape, offsets = values.get("dtype"), values.get("shape"), values.get("data_offsets")
    if (
        not isinstance(dtype, str)
        or dtype not in _BITS
        or not _counts(shape)
        or not _counts(offsets)
        or len(offsets) != 2
        or math.prod(shape) * _BITS[dtype] != (offsets[1] - offsets[0]) * 8
    ):
        raise _damaged(shown, f"its header contradicts itself at the tensor {shortened(name, 60)}")
    return TensorHeader(dtype, tuple(shape), offsets[0], offsets[1])


def _counts(value: object) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(each) is int and 0 <= each < 1 << 63 for each in value)


def _end(shown: str, found: dict[str, TensorHeader]) -> int:
    """Where the last tensor ends. Raises ModelError unless they lie one behind the other, without gaps."""
    end = 0
    for name, tensor in sorted(found.items(), key=lambda item: (item[1].start, item[1].end)):
        if tensor.start != end:
            raise _damaged(shown, f"its header contradicts itself at the tensor {shortened(name, 60)}")
        end = tensor.end
    return end


def _damaged(shown: str, why: str) -> ModelError:
    return ModelError(f"{shown} is damaged ({why}); {AGAIN}")
