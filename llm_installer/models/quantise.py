"""A base in 4 or 8 bits: what transformers is told, what is checked afterwards, and one trap of bitsandbytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers import BitsAndBytesConfig, PreTrainedModel

from llm_installer.core.errors import ModelError

_REPACKS = "support_avx512bf16_for_cpu"
STORED = {"nf4": "Linear4bit", "int8": "Linear8bitLt"}
"""The class a linear layer has afterwards."""


def _nf4(dtype: torch.dtype) -> BitsAndBytesConfig:
    return BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def _int8(dtype: torch.dtype) -> BitsAndBytesConfig:
    return BitsAndBytesConfig(load_in_8bit=True)  # type: ignore[no-untyped-call]


_CONFIGS: dict[str, Callable[[torch.dtype], BitsAndBytesConfig]] = {"nf4": _nf4, "int8": _int8}


def quantising(name: str, dtype: torch.dtype) -> dict[str, Any]:
    """Keywords for from_pretrained: nothing where `name` is empty. Embeddings and output layer stay whole."""
    return {"quantization_config": _CONFIGS[name](dtype)} if name else {}


def settle_quantised(model: PreTrainedModel, name: str) -> None:
    """Make sure that the layers really are quantised, and stay usable for training.

    On CPUs with bfloat16 instructions bitsandbytes repacks 4-bit weights at the first evaluation for a product that has
    no gradient, and that refuses sizes which are no multiples of 32 and 64; training would go on without the base's
    gradient and say nothing. That repacking is switched off. Raises ModelError when no layer could be quantised.
    """
    layers = [m for m in model.modules() if type(m).__name__ == STORED[name]]
    if not layers:
        raise ModelError(
            f"No layer of {type(model).__name__} can be quantised; train it without --use-4bit and --use-8bit"
        )
    for layer in layers:
        setattr(layer, _REPACKS, False)
    _leave_file(model)


def _leave_file(model: PreTrainedModel) -> None:
    """Copy what stays whole out of the file on a CPU, where it lies in memory as long as one tensor of it is used."""
    for weight in model.parameters():
        if weight.is_floating_point() and weight.device.type == "cpu":
            weight.data = weight.data.clone()


def whole_line(model: nn.Module) -> str:
    """Which weights could not be quantised, besides embeddings and output layer; empty where there are none."""
    found = left_whole(model)
    if not found:
        return ""
    names = ", ".join(f"{name} ({count:,} weights)" for name, count in found.items())
    return f"Not quantised, for these are no plain linear layers: {names}."


def left_whole(model: nn.Module) -> dict[str, int]:
    """Names of the weights that are not quantised, without those that never are, and how many numbers each has.

    Numbers in a name are taken out, so that equal parts of different layers count as one.
    """
    kept = {id(p) for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
    output = model.get_output_embeddings()  # type: ignore[operator]
    kept |= {id(p) for p in output.parameters()} if output is not None else set()
    found: dict[str, int] = {}
    for name, weight in model.named_parameters():
        if weight.is_floating_point() and weight.ndim > 1 and id(weight) not in kept:
            general = ".".join(part for part in name.split(".") if not part.isdigit()).removesuffix(".weight")
            found[general] = found.get(general, 0) + weight.numel()
    return found
