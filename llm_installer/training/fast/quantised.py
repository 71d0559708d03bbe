"""The frozen weight below a LoRA layer for a product: as it is stored, or dequantised from 4 bits.

A dequantised weight is never kept: the forward pass makes it, the backward pass makes it again.
Delete when bitsandbytes has a fused product with 4-bit weights whose backward does not dequantise (0.50 has only a
forward one), or with lora.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, cast

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from llm_installer.models.float8 import is_float8
from llm_installer.models.quantise import is_four_bit

if TYPE_CHECKING:
    from bitsandbytes.functional import QuantState


class BaseLayer(Protocol):
    """What is used of a frozen layer: nn.Linear, Conv1D, or bitsandbytes' Linear4bit."""

    weight: nn.Parameter
    bias: nn.Parameter | None


class _FourBitWeight(Protocol):
    data: Tensor
    quant_state: QuantState


class _FourBit(Protocol):
    compute_dtype: torch.dtype
    weight: _FourBitWeight


def computed_in(base: nn.Module) -> torch.dtype:
    """The type in which a frozen layer multiplies; float32 where its weights do not say."""
    if is_four_bit(base) or is_float8(base):
        return cast(_FourBit, base).compute_dtype
    weight = getattr(base, "weight", None)
    plain = isinstance(weight, Tensor) and weight.is_floating_point()
    return cast(Tensor, weight).dtype if plain else torch.float32


def computes_in(base: BaseLayer, dtype: torch.dtype) -> bool:
    """Whether this layer, given an input of this type, multiplies in it too."""
    if not is_four_bit(cast(nn.Module, base)):
        return bool(base.weight.dtype == dtype)
    state = getattr(base.weight, "quant_state", None)
    # Weights repacked for evaluation on a CPU cannot be read by the general dequantisation.
    plain = state is not None and not getattr(state, "packing_format_for_cpu", False)
    return plain and cast(_FourBit, base).compute_dtype == dtype


def product_weight(base: BaseLayer, dtype: torch.dtype) -> Tensor:
    """The weight of this layer for a product in this type: [inputs, outputs]."""
    if is_four_bit(cast(nn.Module, base)):
        from bitsandbytes.functional import dequantize_4bit

        stored = cast(_FourBit, base).weight
        return dequantize_4bit(stored.data.view(-1, 1), stored.quant_state).to(dtype).t()
    weight = base.weight.detach()
    return weight if isinstance(base, Conv1D) else weight.t()
