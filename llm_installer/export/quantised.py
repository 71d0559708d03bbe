"""A base as a run on 4 or 8 bits saw it: each weight quantised and dequantised again, by the library that did so."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

import torch
from torch import Tensor, nn

from llm_installer.export.tensors import RoundTrip
from llm_installer.models.float8 import cast_back, cast_rows
from llm_installer.models.quantise import STORED
from llm_installer.planning.method import FLOAT8


def quantised_weights(model: nn.Module, kind: str) -> frozenset[str]:
    """The weights of a base in memory that are quantised in the way `kind`, by the names they have without PEFT."""
    names = (name for name, module in model.named_modules() if type(module).__name__ == STORED[kind])
    return frozenset(plain_name(f"{name}.weight") for name in names)


def plain_name(name: str) -> str:
    """The name in the base of a weight of a model with an adapter; empty for what PEFT has added."""
    if ".lora_" in name or ".modules_to_save." in name:
        return ""
    return name.removeprefix("base_model.model.").replace(".base_layer", "").replace(".original_module", "")


def round_trip(kind: str, dtype: torch.dtype) -> RoundTrip:
    """The way through `kind` and back that a weight took in training, where it was loaded as `dtype`."""
    return lambda weight: _WAYS[kind](weight.to(dtype))


def _nf4(weight: Tensor) -> Tensor:
    functional = import_module("bitsandbytes.functional")
    data, state = functional.quantize_4bit(weight.contiguous(), quant_type="nf4", compress_statistics=True)
    found: Tensor = functional.dequantize_4bit(data, state)
    return found


def _int8(weight: Tensor) -> Tensor:
    functional = import_module("bitsandbytes.functional")
    data, scales, _ = functional.int8_vectorwise_quant(weight.to(torch.float16))
    found: Tensor = functional.int8_vectorwise_dequant(data, scales)
    return found


def _float8(weight: Tensor) -> Tensor:
    return cast_back(*cast_rows(weight))


_WAYS: dict[str, Callable[[Tensor], Tensor]] = {"nf4": _nf4, "int8": _int8, FLOAT8: _float8}
