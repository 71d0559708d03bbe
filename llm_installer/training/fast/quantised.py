"""The frozen weight below a LoRA layer for a product: as it is stored, or made whole from 4 bits.

A dequantised weight is never kept: the forward pass makes it, the backward pass makes it again.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

_FOUR_BITS = ("bitsandbytes.nn.modules", "Linear4bit")
"""Module and class; compared by name, so that nothing imports bitsandbytes where no base is quantised."""


def four_bits(base: nn.Module) -> bool:
    """Whether this layer holds its weight in 4 bits."""
    return (type(base).__module__, type(base).__name__) == _FOUR_BITS


def computes_in(base: Any, dtype: torch.dtype) -> bool:
    """Whether this layer, given an input of this type, multiplies in it too."""
    if not four_bits(base):
        return bool(base.weight.dtype == dtype)
    state = getattr(base.weight, "quant_state", None)
    # Weights repacked for evaluation on a CPU cannot be read by the general dequantisation.
    return state is not None and base.compute_dtype == dtype and not getattr(state, "packing_format_for_cpu", False)


def whole_weight(base: Any, dtype: torch.dtype) -> Tensor:
    """The weight of this layer for a product in this type: [inputs, outputs]."""
    if four_bits(base):
        from bitsandbytes.functional import dequantize_4bit

        packed = base.weight.data.view(-1, 1)
        return dequantize_4bit(packed, base.weight.quant_state).to(dtype).t()
    weight: Tensor = base.weight.detach()
    return weight if type(base) is Conv1D else weight.t()
