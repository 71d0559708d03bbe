"""A library's kernels as operations of their own, so that each is counted once, whatever it computes here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface
from transformers.models.llama import modeling_llama

from llm_installer.training.fast.layer_kernels import Form, LayerKernels, torch_kernels

VIEWS = {
    "view", "t", "transpose", "detach", "alias", "slice", "split", "split_with_sizes", "unsqueeze", "expand", "select",
    "permute", "squeeze", "as_strided", "_unsafe_view", "unbind", "_reshape_alias", "narrow",
}  # fmt: skip
MAKES = {"empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided"}
ATTENTION = "counted_attention"
TORCH = torch_kernels()
FORM = Form(1e-6, 0.0, True)
_library = torch.library.Library("counted", "DEF")


class Counting(TorchDispatchMode):
    """Counts what is dispatched."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.found[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))

    @property
    def launches(self) -> int:
        """All that is no view and no allocation."""
        return sum(n for name, n in self.found.items() if name not in VIEWS | MAKES)


def _operation(schema: str) -> Callable[[Callable[..., Any]], Any]:
    """What a function does as one operation of this schema, which returns nothing."""

    def made(run: Callable[..., Any]) -> Any:
        def alone(*given: Any) -> None:
            run(*given)

        name = _library.define(schema)
        _library.impl(name, alone, "CPU")
        return getattr(torch.ops.counted, name)

    return made


@_operation("norm(Tensor x, Tensor w, Tensor(a!) out, Tensor(b!) root) -> ()")
def _norm(x: Tensor, weight: Tensor, out: Tensor, root: Tensor) -> None:
    result, kept = TORCH.norm(x, weight, FORM)
    out.copy_(result)
    root.copy_(kept)


@_operation("norm_back(Tensor g, Tensor x, Tensor w, Tensor r, Tensor(a!) out, Tensor? more) -> ()")
def _norm_back(g: Tensor, x: Tensor, weight: Tensor, root: Tensor, out: Tensor, more: Tensor | None) -> None:
    out.copy_(TORCH.norm_back(g, x, weight, root, FORM, torch.zeros_like(x) if more is None else more))


@_operation("turn(Tensor(a!) q, Tensor(b!) k, Tensor c, Tensor s, float sign) -> ()")
def _turn(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, sign: float) -> None:
    for x in (q, k):  # [rows, length, heads, numbers]
        a, b = x.chunk(2, -1)
        x.copy_(x * cos[:, :, None] + sign * torch.cat([-b, a], -1) * sin[:, :, None])


@_operation("turn_stack(Tensor(a!) x, int h, int w, Tensor c, Tensor s) -> ()")
def _turn_stack(x: Tensor, heads: int, width: int, cos: Tensor, sin: Tensor) -> None:
    TORCH.rotary(x, heads, width, cos, sin)


@_operation("turn_stack_back(Tensor q, Tensor k, Tensor v, Tensor c, Tensor s, Tensor(a!) out) -> ()")
def _turn_stack_back(dq: Tensor, dk: Tensor, dv: Tensor, cos: Tensor, sin: Tensor, out: Tensor) -> None:
    out.copy_(TORCH.rotary_back(dq, dk, dv, cos, sin))


@_operation("gate(Tensor a, Tensor b, Tensor(a!) out) -> ()")
def _gate(a: Tensor, b: Tensor, out: Tensor) -> None:
    out.copy_(F.silu(a) * b)


@_operation("gate_back(Tensor g, Tensor(a!) a, Tensor(b!) b) -> ()")
def _gate_back(g: Tensor, a: Tensor, b: Tensor) -> None:
    both = torch.cat([a, b], 1)
    TORCH.gate_back(g, both, "silu")
    for place, found in zip((a, b), both.chunk(2, 1), strict=True):
        place.copy_(found)


@_operation("gate_stack(Tensor x, Tensor(a!) out) -> ()")
def _gate_stack(x: Tensor, out: Tensor) -> None:
    out.copy_(TORCH.gate(x, "silu"))


@_operation("gate_stack_back(Tensor g, Tensor(a!) x) -> ()")
def _gate_stack_back(g: Tensor, x: Tensor) -> None:
    TORCH.gate_back(g, x, "silu")


@_operation("attend(Tensor q, Tensor k, Tensor v, Tensor(a!) out) -> ()")
def _attend(q: Tensor, k: Tensor, v: Tensor, out: Tensor) -> None:
    _, _, values, weights, _ = _weights(q, k, v)
    out.copy_((weights @ values).transpose(0, 1))


@_operation("attend_back(Tensor g, Tensor q, Tensor k, Tensor v, Tensor(a!) dq, Tensor(b!) dk, Tensor(c!) dv) -> ()")
def _attend_back(g: Tensor, q: Tensor, k: Tensor, v: Tensor, dq: Tensor, dk: Tensor, dv: Tensor) -> None:
    queries, keys, values, weights, scale = _weights(q, k, v)
    outer = g.transpose(0, 1).float()
    slope = outer @ values.transpose(1, 2)
    slope = weights * (slope - (slope * weights).sum(-1, keepdim=True)) * scale
    dq.copy_((slope @ keys).transpose(0, 1))
    for slot, each in ((dk, slope.transpose(1, 2) @ queries), (dv, weights.transpose(1, 2) @ outer)):
        slot.copy_(each.unflatten(0, (k.shape[1], -1)).sum(1).transpose(0, 1))


def _weights(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, float]:
    """Queries, keys and values by head in float32, keys repeated for their group; causal weights; the scale."""
    group, scale = q.shape[1] // k.shape[1], q.shape[2] ** -0.5
    q, k, v = (t.transpose(0, 1).float() for t in (q, k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)))
    above = torch.full((q.shape[1], q.shape[1]), float("-inf")).triu_(1)
    return q, k, v, torch.softmax(q @ k.transpose(1, 2) * scale + above, -1), scale


@_operation("add_product(Tensor(a!) onto, Tensor left, Tensor right, float scale) -> ()")
def add_product(onto: Tensor, left: Tensor, right: Tensor, scale: float) -> None:
    """As torch.addmm with out_dtype does it on CUDA: a product of 16 bits added to 32, in place."""
    onto.add_(torch.mm(left, right), alpha=scale)


class _Attend(torch.autograd.Function):
    """One kernel each way, [tokens, heads, size] in and out, as varlen attention has it."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out, sums = torch.empty(q.shape, dtype=q.dtype), torch.empty(q.shape[:2])
        _attend(q, k, v, out)
        ctx.save_for_backward(q, k, v, out, sums)
        return out

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, ...]:
        q, k, v, _, _ = ctx.saved_tensors
        slots = [torch.empty(t.shape, dtype=t.dtype) for t in (q, k, v)]
        _attend_back(g, q, k, v, *slots)
        return tuple(slots)


def _counted_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Any, **more: Any
) -> tuple[Tensor, None]:
    q, k, v = (t.squeeze(0).transpose(0, 1) for t in (query, key, value))
    return _Attend.apply(q, k, v).unsqueeze(0), None


AttentionInterface.register(ATTENTION, _counted_attention)
AttentionMaskInterface.register(ATTENTION, lambda *args, **more: None)


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        flat = x.view(-1, x.shape[-1])
        out, root = _normed(flat, weight, FORM)
        ctx.save_for_backward(flat, weight, root)
        return out.view(x.shape)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        flat, weight, root = ctx.saved_tensors
        out = torch.empty_like(flat)
        _norm_back(g.view(flat.shape), flat, weight, root, out, None)
        return out.view(g.shape), None


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        flat = a.view(-1, a.shape[-1]), b.view(-1, b.shape[-1])
        out = torch.empty_like(flat[0])
        _gate(*flat, out)
        ctx.save_for_backward(*flat)
        return out.view(a.shape)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor]:
        a, b = (t.detach() for t in ctx.saved_tensors)
        _gate_back(g.view(a.shape), a, b)
        return a.view(g.shape), b.view(g.shape)


class _Rotary(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        q, k = q.transpose(1, 2).contiguous(), k.transpose(1, 2).contiguous()
        _turn(q, k, cos, sin, 1.0)
        ctx.save_for_backward(cos, sin)
        return q.transpose(1, 2), k.transpose(1, 2)

    @staticmethod
    def backward(ctx: Any, dq: Tensor, dk: Tensor) -> tuple[Tensor, Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        dq, dk = dq.transpose(1, 2).contiguous(), dk.transpose(1, 2).contiguous()
        _turn(dq, dk, cos, sin, -1.0)
        return dq.transpose(1, 2), dk.transpose(1, 2), None, None


def put_on(model: nn.Module, patch: pytest.MonkeyPatch) -> None:
    """The kernels as a library's functions, in the place of norms, gates and rotary embeddings of Llama."""
    patch.setattr(modeling_llama, "apply_rotary_pos_emb", lambda q, k, cos, sin: _Rotary.apply(q, k, cos, sin))
    for module in model.modules():
        if type(module).__name__ == "LlamaRMSNorm":
            patch.setitem(vars(module), "forward", lambda x, m=module: _Norm.apply(x, m.weight))
        elif type(module).__name__ == "LlamaMLP":
            patch.setitem(
                vars(module), "forward", lambda x, m=module: m.down_proj(_Gate.apply(m.gate_proj(x), m.up_proj(x)))
            )


def _normed(x: Tensor, weight: Tensor, form: Form) -> tuple[Tensor, Tensor]:
    out, root = torch.empty_like(x), torch.empty(len(x), 1)
    _norm(x, weight, out, root)
    return out, root


def _norm_gradient(g: Tensor, x: Tensor, weight: Tensor, root: Tensor, form: Form, more: Tensor) -> Tensor:
    out = torch.empty_like(x)
    _norm_back(g, x, weight, root, out, more)
    return out


def _rotary_gradient(dq: Tensor, dk: Tensor, dv: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    rows, _, length, width = dq.shape
    out = torch.empty(rows * length, sum(t.shape[1] for t in (dq, dk, dv)) * width, dtype=dq.dtype)
    _turn_stack_back(dq, dk, dv, cos, sin, out)
    return out


def _gated(both: Tensor, form: str) -> Tensor:
    out = torch.empty(len(both), both.shape[1] // 2, dtype=both.dtype)
    _gate_stack(both, out)
    return out


KERNELS = LayerKernels(
    _normed, _norm_gradient, lambda *given: _turn_stack(*given), _rotary_gradient, _gated,
    lambda g, both, form: _gate_stack_back(g, both),
)  # fmt: skip
"""The same as kernels of a planned layer."""
