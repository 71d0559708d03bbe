"""Causal attention by the kernels in C: over complete rows, or over documents one after the other in one row.

Delete when torch's flash attention for CPUs takes documents of various lengths in bfloat16, and short ones are as fast.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from llm_installer.training.fast.context import Context
from llm_installer.training.fast.cpu.native.calls import call, own
from llm_installer.training.fast.cpu.native.library import library

NEAR = 2e-2
"""How far results in bfloat16 may be apart."""

SHORT = "not enough memory: attention could not get its workspace"
"""As torch's own allocator for CPUs says it, so that the run backs off."""


class Layout(ctypes.Structure):
    """Where queries, keys and values lie, as attention.c has it."""

    _fields_ = [(name, ctypes.c_long) for name in ("q_token", "q_head", "k_token", "k_head", "v_token", "v_head")]


def attention(query: Tensor, key: Tensor, value: Tensor, bounds: Tensor, scale: float) -> Tensor:
    """[rows, length, heads, width] of query [rows, heads, length, width] over key and value [rows, key heads, length,
    width], all in bfloat16. `bounds`, int32 from 0, say where documents begin and end, rows being counted through."""
    result: Tensor = _Attention.apply(query, key, value, bounds, scale)  # type: ignore[no-untyped-call]
    return result


def whole_rows(query: Tensor) -> Tensor:
    """Bounds of rows [rows, heads, length, width] that are one document each."""
    rows, _, length, _ = query.shape
    return torch.arange(0, (rows + 1) * length, length, dtype=torch.int32)


@lru_cache(maxsize=1)
def usable() -> bool:
    """Whether there are kernels for this processor that make of two small documents what PyTorch makes of them."""
    if not hasattr(library()[0], "attention_forward"):
        return False
    random = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, h, 70, 16, generator=random).bfloat16().requires_grad_() for h in (4, 2, 2))
    outer = torch.randn(1, 70, 4, 16, generator=random).bfloat16()
    with torch.enable_grad():
        together = attention(q, k, v, torch.tensor([0, 3, 70], dtype=torch.int32), 0.25)
        apart = [
            scaled_dot_product_attention(q[:, :, a:b], k[:, :, a:b], v[:, :, a:b], is_causal=True, enable_gqa=True)
            for a, b in ((0, 3), (3, 70))
        ]
        results = together, torch.cat(apart, 2).transpose(1, 2)
        own, plain = ((r.detach(), *torch.autograd.grad(r, (q, k, v), outer)) for r in results)
    return all(bool((a - b).float().norm() <= NEAR * b.float().norm()) for a, b in zip(own, plain, strict=True))


class _Scaled(Context, Protocol):
    scale: float


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: _Scaled, query: Tensor, key: Tensor, value: Tensor, bounds: Tensor, scale: float) -> Tensor:
        rows, heads, length, width = query.shape
        q, k, v = (_tokens(t) for t in (query, key, value))
        result = torch.empty(rows, length, heads, width, dtype=query.dtype)
        mass = torch.empty(heads, rows * length, dtype=torch.float32)
        sizes = (len(bounds) - 1, heads, k.shape[1], width, ctypes.addressof(layout := _layout(q, k, v)), scale)
        if not call("attention_forward", q, k, v, result, mass, bounds, *sizes):
            raise RuntimeError(SHORT)
        del layout
        ctx.save_for_backward(q, k, v, result, mass, bounds)
        ctx.scale = scale
        return result

    @staticmethod
    def backward(ctx: _Scaled, outer: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        q, k, v, result, mass, bounds = ctx.saved_tensors
        rows, length, heads, width = result.shape
        groups = k.shape[1]
        dq = torch.empty_like(result)
        dk, dv = (torch.empty(rows, length, groups, width, dtype=q.dtype) for _ in range(2))
        given = own(outer.contiguous())
        sizes = (len(bounds) - 1, heads, groups, width, ctypes.addressof(layout := _layout(q, k, v)), ctx.scale)
        if not call("attention_backward", q, k, v, result, given, mass, dq, dk, dv, bounds, *sizes):
            raise RuntimeError(SHORT)
        del layout
        return dq.transpose(1, 2), dk.transpose(1, 2), dv.transpose(1, 2), None, None


def _tokens(heads_first: Tensor) -> Tensor:
    """[tokens, heads, width], the numbers of a head one after the other: a view where that can be."""
    flat = heads_first.transpose(1, 2).flatten(0, 1)
    return flat if flat.stride(-1) == 1 and flat.stride(0) % 2 == 0 else flat.contiguous()


def _layout(q: Tensor, k: Tensor, v: Tensor) -> Layout:
    return Layout(*(t.stride(i) for t in (q, k, v) for i in (0, 1)))
