"""A GGUF file, written one tensor after the other under another name until it is complete."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from gguf import GGUFWriter, LlamaFileType
from gguf.quants import quantize

from llm_installer.core.errors import ModelError
from llm_installer.core.files import sync, unwritable
from llm_installer.export.gguf.facts import Values
from llm_installer.export.gguf.tensors import Planned, float16_safe

FILE_TYPES = {
    "f32": LlamaFileType.ALL_F32,
    "f16": LlamaFileType.MOSTLY_F16,
    "bf16": LlamaFileType.MOSTLY_BF16,
    "q8_0": LlamaFileType.MOSTLY_Q8_0,
}
_ALL = ("general.", "tokenizer.", "adapter.")
"""Keys that are the same for each architecture."""
_FLOAT = np.dtype(np.float32)
_QUANTISATION = 2
"""The version of the block formats."""


def write_gguf(file: Path, arch: str, values: Values, tensors: Sequence[Planned], kind: str) -> None:
    """Write a whole file. A few rows of a tensor are in memory at a time, of one with another layout all of them.

    Raises DiskError, and ModelError for a weight that its type cannot hold; the file is then still there, in part.
    """
    writer = GGUFWriter(file, arch)
    add_values(writer, {"general.file_type": int(FILE_TYPES[kind]), **values})
    if kind == "q8_0":
        writer.add_quantization_version(_QUANTISATION)
    for each in tensors:
        # The shape of a quantised tensor is given in weights where the type of the array is not bytes.
        writer.add_tensor_info(each.name, each.shape, _FLOAT, each.bytes, raw_dtype=each.kind)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        assert writer.fout, "it is open now"
        out = writer.fout[0]
        for each in tensors:
            writer.write_padding(out, out.tell())
            for rows in each.read():
                if each.kind.name == "F16" and not float16_safe(rows):
                    raise ModelError(f"{each.name} holds numbers that f16 has no place for; take --type bf16 or f32")
                out.write(np.ascontiguousarray(quantize(rows.numpy(), each.kind)).data)
        writer.write_padding(out, out.tell())
        out.flush()
        sync(out.fileno())
    except OSError as error:
        raise unwritable(file, error) from None
    finally:
        with suppress(OSError):
            writer.close()


def add_values(writer: GGUFWriter, values: Values) -> None:
    """Add metadata; keys with another first word than those of _ALL get the name of the architecture."""
    for name, value in values.items():
        key = name if name.startswith(_ALL) else f"{writer.arch}.{name}"
        if isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        else:
            writer.add_array(key, value)
