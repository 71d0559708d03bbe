"""Attention over documents of various lengths on an NVIDIA GPU: torch's own operator, or its public face.

The operator is the same from torch 2.8 on; the face appeared in 2.10 and has changed with each version since, so what
its signature names is what it is given. Both take [tokens, heads, size] and read the bounds on the device.
Delete `flash` when varlen_attn costs no more than the operator below it (in torch 2.11 it took 850 us of a CPU's time
a layer, the operator 204), and `varlen` with it.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from importlib.util import find_spec

import torch
from torch import Tensor

OPERATOR = "_flash_attention_forward"
LARGEST = 256
"""Most numbers of a head."""


def has_flash() -> bool:
    """Whether this torch knows the operator."""
    return hasattr(torch.ops.aten, OPERATOR)


def has_varlen() -> bool:
    """Whether this torch has the public face."""
    return find_spec("torch.nn.attention.varlen") is not None


def fits(capability: tuple[int, int], dtype: str, head_dim: int) -> bool:
    """Whether a GPU of this capability computes heads of this size so."""
    return capability >= (8, 0) and dtype != "float32" and head_dim <= LARGEST and head_dim % 8 == 0


def flash(query: Tensor, key: Tensor, value: Tensor, bounds: Tensor, longest: int, scale: float | None) -> Tensor:
    """Causal attention [tokens, heads, size] of documents between `bounds`, int32, none above `longest` tokens."""
    operator = getattr(torch.ops.aten, OPERATOR)
    result: Tensor = operator(
        query, key, value, bounds, bounds, longest, longest, 0.0, True, False, scale=scale
    )[0]  # fmt: skip
    return result


def varlen(query: Tensor, key: Tensor, value: Tensor, bounds: Tensor, longest: int, scale: float | None) -> Tensor:
    """The same by varlen_attn, whatever its version takes."""
    from torch.nn.attention.varlen import varlen_attn

    return by_signature(varlen_attn, inspect.signature(varlen_attn).parameters)(
        query, key, value, bounds, longest, scale
    )


def by_signature(
    function: Callable[..., object], known: Mapping[str, object]
) -> Callable[[Tensor, Tensor, Tensor, Tensor, int, float | None], Tensor]:
    """How a version of varlen_attn is called that takes what `known` names."""

    def attend(query: Tensor, key: Tensor, value: Tensor, bounds: Tensor, longest: int, scale: float | None) -> Tensor:
        more: dict[str, object] = {"window_size": (-1, 0)} if "window_size" in known else {"is_causal": True}
        groups = query.shape[1] // key.shape[1]
        if groups > 1 and "enable_gqa" in known:
            more["enable_gqa"] = True
        elif groups > 1:
            key, value = (t.repeat_interleave(groups, 1) for t in (key, value))
        if scale is not None and "scale" in known:
            more["scale"] = scale
        elif scale is not None:  # it divides by the root of the size by itself
            query = query * (scale * math.sqrt(query.shape[-1]))
        result = function(query, key, value, bounds, bounds, longest, longest, **more)
        assert isinstance(result, Tensor), "only the output was asked for"
        return result

    return attend
