"""The weights of an adapter from elsewhere, checked: each tensor is half of a LoRA for a layer of the base.

It has the right shape and type, and holds numbers only. They are read by numpy alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path

from llm_installer.core.errors import ModelError
from llm_installer.core.safetensors import TensorHeader, read_header
from llm_installer.core.text import short_path, shortened
from llm_installer.core.weight_files import read_headers
from llm_installer.studio.results import NotAccepted

_TENSOR = re.compile(r"base_model\.model\.(?P<layer>[\w.]+)\.(?P<kind>lora_A|lora_B|lora_magnitude_vector)\.weight")
_EMBEDDING = re.compile(r"base_model\.model\.(?P<layer>[\w.]+)\.(?P<kind>lora_embedding_[AB])")
_TOKENS = re.compile(r"base_model\.model\.(?P<layer>[\w.]+)\.token_adapter\.(?P<kind>trainable_tokens_delta)")
"""Rows of the output layer, such as that of an end token which the base never learned."""
_EMBEDDINGS = ("embed_tokens", "wte", "word_embeddings", "embed_in")
"""How layers with a row for each token are called; an output layer that shares its weights is in no file."""
_EXPONENT = {"F32": ("<u4", 0x7F800000), "F16": ("<u2", 0x7C00), "BF16": ("<u2", 0x7F80)}
"""How a number of each type is read as a whole one, and the bits that are all set in infinities and NaN."""
_SHAPED = ("F64", "F32", "F16", "BF16")
"""Types whose shape in the files of the base is that of the weight."""
_PIECE = 1 << 22
"""Numbers that are looked at together."""


def check_weights(file: Path, base: Path, ranks: Mapping[str, int], rank: int) -> None:
    """Raise NotAccepted where a tensor in `file` does not belong on the base whose weights are in the folder `base`.

    `rank` is that of its configuration, `ranks` that of single layers, by the end of their names.
    """
    try:
        header = read_header(file)
    except ModelError as error:
        why = str(error).partition("; ")[0].replace(short_path(file), file.name)
        raise NotAccepted(f"The weights of the result cannot be used: {why}") from None
    if not header:
        raise NotAccepted("The weights of the result hold nothing")
    weights = read_headers(base)
    for name, tensor in header.items():
        _check_tensor(name, tensor, weights, ranks, rank)
    _refuse_no_numbers(file, header)


def _check_tensor(
    name: str, tensor: TensorHeader, weights: Mapping[str, TensorHeader], ranks: Mapping[str, int], rank: int
) -> None:
    shown = shortened(name, 120)
    found = _TENSOR.fullmatch(name) or _EMBEDDING.fullmatch(name) or _TOKENS.fullmatch(name)
    if found is None:
        raise NotAccepted(f"The weights of the result hold {shown}, which is no part of a LoRA")
    if tensor.dtype not in _EXPONENT:
        raise NotAccepted(f"{shown} of the result is {tensor.dtype}; a LoRA is float32, float16 or bfloat16")
    layer = found["layer"]
    weight = _weight(layer, weights) or (_embedding(weights) if found["kind"] == "trainable_tokens_delta" else None)
    if weights and weight is None:
        raise NotAccepted(f"The result adapts {shortened(layer, 100)}, and the base has no such layer")
    own = next((each for end, each in ranks.items() if layer == end or layer.endswith(f".{end}")), rank)
    shape = _inner(found["kind"], tensor.shape, own)
    if shape is None:
        raise NotAccepted(f"{shown} of the result is {_sizes(tensor.shape)}, and its rank is {own}")
    if weight and weight.dtype in _SHAPED and len(weight.shape) == 2 and shape not in weight.shape:
        raise NotAccepted(f"{shown} of the result is {_sizes(tensor.shape)}, and its weight {_sizes(weight.shape)}")


def _inner(kind: str, shape: tuple[int, ...], rank: int) -> int | None:
    """The size that a tensor shares with its weight; None where it has not the form of its kind."""
    if kind == "lora_magnitude_vector":
        return math.prod(shape) if len(shape) in (1, 2) and (len(shape) == 1 or 1 in shape) else None
    if len(shape) != 2:
        return None
    if kind == "trainable_tokens_delta":
        return shape[1]
    first = kind in ("lora_A", "lora_embedding_A")
    own, other = (shape[0], shape[1]) if first else (shape[1], shape[0])
    return other if own == rank else None


def _weight(layer: str, weights: Mapping[str, TensorHeader]) -> TensorHeader | None:
    """The weight of a layer; files may begin its name otherwise than the model does."""
    parts = layer.split(".")
    if exact := weights.get(f"{layer}.weight"):
        return exact
    for start in range(1, max(2, len(parts) - 2)):
        end = f"{'.'.join(parts[start:])}.weight"
        for name, each in weights.items():
            if name == end or name.endswith(f".{end}"):
                return each
    return None


def _embedding(weights: Mapping[str, TensorHeader]) -> TensorHeader | None:
    return next((each for name, each in weights.items() if set(_EMBEDDINGS) & set(name.split("."))), None)


def _refuse_no_numbers(file: Path, header: Mapping[str, TensorHeader]) -> None:
    import numpy as np

    start = file.stat().st_size - max(tensor.end for tensor in header.values())
    content = np.memmap(file, dtype=np.uint8, mode="r")
    for name, tensor in header.items():
        kind, bits = _EXPONENT[tensor.dtype]
        # Aligned or not: a copy of a piece is.
        width = int(kind[-1])
        for at in range(start + tensor.start, start + tensor.end, _PIECE * width):
            piece = np.frombuffer(content[at : min(at + _PIECE * width, start + tensor.end)].tobytes(), dtype=kind)
            if bool(((piece & bits) == bits).any()):
                raise NotAccepted(f"{shortened(name, 120)} of the result holds values that are not numbers")


def _sizes(shape: tuple[int, ...]) -> str:
    return " x ".join(f"{each:,}" for each in shape) or "a single number"
