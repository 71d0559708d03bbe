"""The tensors of quantised weights as they are when dequantised: names and shapes, from the headers of their files."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from llm_installer.core.quantisation import Stored, damaged, refused
from llm_installer.core.safetensors import TensorHeader
from llm_installer.core.text import counted
from llm_installer.core.weight_files import read_tensors

Headers: TypeAlias = "Mapping[str, TensorHeader]"
_STATES = (".quant_state.bitsandbytes__nf4", ".quant_state.bitsandbytes__fp4")
"""What bitsandbytes keeps beside a weight in 4 bits: JSON with its shape."""
_SCALES = ("_scale_inv", ".scale", ".qscale_weight")
"""How fp8 files name the scales of a weight: after its name, or in the place of `.weight`."""
_UNNAMED = (".qweight", ".weight_packed", ".qzeros", ".W_q", *_STATES)
"""Tensors that only quantised weights have."""
_EXPERT = re.compile(r"\.experts\.\d+\.")
_FEW_BITS = ("I8", "U8", "I32", "U32", "F4", "F8_E4M3", "F8_E5M2", "F8_E8M0")


UNSHAPED = "U8"
"""Type of a weight whose shape is not known: one row of all its numbers."""


def dequantised(folder: Path, headers: Headers, stored: Stored, shown: str) -> dict[str, TensorHeader]:
    """The tensors as the architecture names them, without scales and the like.

    Raises ModelError where the files of the model `shown` hold other weights than its config says.
    """
    if not stored.words:
        _refuse_unnamed(headers, shown)
        return dict(headers)
    return _BY_METHOD[stored.kept or stored.words](folder, headers, shown)


def _refuse_unnamed(headers: Headers, shown: str) -> None:
    for name, tensor in headers.items():
        if name.endswith(_UNNAMED) or (name.endswith(".weight") and tensor.dtype in _FEW_BITS):
            raise refused(f"a method that its config.json does not name ({name} is {tensor.dtype})", shown)


def _four_bits(folder: Path, headers: Headers, shown: str) -> dict[str, TensorHeader]:
    beside = {name + end: name for name in headers for end in _STATES if name + end in headers}
    shapes = {beside[name]: _shape(state) for name, state in read_tensors(folder, beside).items()}
    _refuse_experts(shapes, shown)
    if headers and not shapes:
        raise damaged(shown, "its config.json says bitsandbytes in 4 bits, and none of its tensors is")
    found = {}
    for name, tensor in headers.items():
        weight = name.partition(".weight.")[0] + ".weight"
        if name in shapes:
            numbers = 2 * (tensor.end - tensor.start)
            shape = shapes[name]
            # Where the numbers are odd, half a byte is left over.
            known = math.prod(shape) in (numbers, numbers - 1)
            found[name] = replace(tensor, shape=shape) if known else replace(tensor, dtype=UNSHAPED, shape=(numbers,))
        elif weight not in shapes:
            found[name] = tensor
    return found


def _refuse_experts(names: Iterable[str], shown: str) -> None:
    """Raise ModelError for experts that are quantised one by one: transformers would take their bytes for numbers.

    Only of Llama 4 does it hold the experts so, under names of their own.
    """
    apart = next((n for n in names if _EXPERT.search(n) and "feed_forward" not in n), None)
    if apart:
        raise damaged(
            shown, f"{apart} is quantised by itself, and transformers holds the experts of a layer in one block"
        )


def _shape(state: bytes) -> tuple[int, ...]:
    """The shape that the state of a weight names; of nothing where it cannot be read, as in a file without content."""
    try:
        shape = json.loads(state.decode("utf-8"))["shape"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return (0,)
    fits = isinstance(shape, list) and len(shape) < 5 and all(type(n) is int and 0 < n < 1 << 40 for n in shape)
    return tuple(shape) if fits else (0,)


def _eight_bits(folder: Path, headers: Headers, shown: str) -> dict[str, TensorHeader]:
    beside = {name.removesuffix("weight") + end for name in headers for end in ("SCB", "weight_format")}
    held = [name for name, tensor in headers.items() if tensor.dtype == "I8"]
    _refuse_experts(held, shown)
    if headers and not held:
        raise damaged(shown, "its config.json says bitsandbytes in 8 bits, and none of its tensors is")
    return {name: tensor for name, tensor in headers.items() if name not in beside}


def _fp8(folder: Path, headers: Headers, shown: str) -> dict[str, TensorHeader]:
    found, beside = {}, set()
    for name, tensor in headers.items():
        names = [name + _SCALES[0], *(name.removesuffix(".weight") + end for end in _SCALES[1:])]
        scale = next((each for each in names if each in headers and each != name), "")
        few = tensor.dtype in _FEW_BITS
        if scale and few:
            # Two numbers in a byte: experts in 4 bits.
            width = 2 if tensor.dtype in ("I8", "U8") else 1
            shape = (*tensor.shape[:-1], tensor.shape[-1] * width) if tensor.shape else ()
            _refuse_blocks(name, shape, headers[scale].shape, shown)
            found[name] = replace(tensor, shape=shape)
            beside |= {scale, f"{name.removesuffix('.weight')}.activation_scale"}
        elif few and name.endswith(".weight"):
            raise damaged(shown, f"{name} has no scale beside it that transformers knows")
        else:
            found[name] = tensor
    return {name: tensor for name, tensor in found.items() if name not in beside}


def _refuse_blocks(name: str, shape: tuple[int, ...], scales: tuple[int, ...], shown: str) -> None:
    """Raise ModelError where a weight does not consist of complete blocks: transformers cannot dequantise those."""
    grid = scales[-2:] if len(scales) > 1 else (1, 1)
    if len(shape) < 2 or any(count < 1 or size % count for size, count in zip(shape[-2:], grid, strict=True)):
        sizes = " x ".join(map(str, shape))
        raise damaged(
            shown, f"{name} of {sizes} is not made of complete blocks, and transformers dequantises no others"
        )


def _mxfp4(folder: Path, headers: Headers, shown: str) -> dict[str, TensorHeader]:
    found = {}
    for name, tensor in headers.items():
        weight = name.removesuffix("_blocks").removesuffix("_scales")
        if weight == name or f"{weight}_blocks" not in headers:
            found[name] = tensor
        elif name.endswith("_blocks"):
            if len(tensor.shape) != 4:
                raise damaged(shown, f"{name} has {counted(len(tensor.shape), 'dimension')} and not four")
            experts, outputs, groups, size = tensor.shape
            found[weight] = replace(tensor, shape=(experts, 2 * groups * size, outputs))
    return found


_BY_METHOD: dict[str, Callable[[Path, Headers, str], dict[str, TensorHeader]]] = {
    "nf4": _four_bits,
    "int8": _eight_bits,
    "fp8": _fp8,
    "mxfp8": _fp8,
    "mxfp4": _mxfp4,
}
