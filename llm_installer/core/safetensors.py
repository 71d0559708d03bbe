"""The headers of safetensors files: names, dtypes and shapes of tensors, read without their weights.

Format: https://huggingface.co/docs/safetensors/index (an 8-byte little-endian length, then JSON of that length).
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path

from llm_installer.core.errors import ModelError
from llm_installer.core.text import short_path

_LONGEST = 1 << 28


@dataclass(frozen=True, slots=True)
class TensorHeader:
    """What is known of a tensor before its weights are read."""

    dtype: str
    """In the format's own words, such as BF16."""
    shape: tuple[int, ...]
    end: int
    """Bytes from the end of the header to the end of the tensor."""


def read_header(file: Path) -> dict[str, TensorHeader]:
    """The tensors of a safetensors file, by name.

    Raises ModelError when its header cannot be read, or the file is shorter than its header says.
    """
    with file.open("rb") as data:
        head = data.read(8)
        length = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
        body = data.read(length) if 0 < length < _LONGEST else b""
    try:
        found = {k: _tensor(t) for k, t in json.loads(body).items() if k != "__metadata__"}
    except (ValueError, LookupError, TypeError, AttributeError):
        raise ModelError(
            f"{short_path(file)} is damaged (its header cannot be read); install the model again with --force"
        ) from None
    if file.stat().st_size < 8 + length + max((t.end for t in found.values()), default=0):
        raise ModelError(f"{short_path(file)} is truncated; install the model again with --force")
    return found


def _tensor(entry: dict[str, list[int]]) -> TensorHeader:
    return TensorHeader(str(entry["dtype"]), tuple(map(int, entry["shape"])), int(entry["data_offsets"][1]))
