"""The C kernels as functions that PyTorch can differentiate. All tensors are bfloat16 on the CPU; others are refused.

The kernels release Python's lock while they compute, so that two threads with a model each do not wait for each other.
Delete when torch computes norms, gates, rotary embeddings and the loss in bfloat16 on a CPU in one pass over memory
each, without being compiled: 135 million parameters did 867 tokens/s with these kernels on two cores, and 666 without.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, cast

import torch
from torch import Tensor

from llm_installer.training.fast.context import Context
from llm_installer.training.fast.cpu.native.calls import call, own
from llm_installer.training.fast.cpu.native.library import library
from llm_installer.training.fast.cross_entropy import LogitRule
from llm_installer.training.fast.kernel_set import Kernels

WITHOUT = "PyTorch's own norms, gates, rotary embeddings and attention by blocks of queries"
GATES = {"silu": 0, "tanh": 1}
"""The numbers of activations in pointwise.c."""


def load_kernels() -> tuple[Kernels | None, str]:
    """The set of kernels, or a sentence that says why there is none."""
    made, why = library()
    if made is None:
        return None, f"{WITHOUT}: {why}"
    gates = {name: _gate(number) for name, number in GATES.items()}
    return Kernels("C kernels", norm, gates, rotary, score), ""


def norm(x: Tensor, weight: Tensor, epsilon: float, offset: float, casting: str) -> Tensor:
    """x [..., width] over its root mean square, times weight [width] + offset; rounded before the product where
    `casting` is llama's."""
    result: Tensor = _Norm.apply(x, weight, epsilon, offset, casting == "llama")  # type: ignore[no-untyped-call]
    return result


def rotary(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """q and k [rows, heads, length, width] turned by angles [rows or 1, length, width]."""
    turned = (_Rotary.apply(t, cos, sin) for t in (q, k))  # type: ignore[no-untyped-call]
    return next(turned), next(turned)


def score(logits: Tensor, targets: Tensor, rule: LogitRule, wanted: bool) -> Tensor:
    """The summed loss of logits [rows, vocabulary]; they become its gradient where that is wanted."""
    if rule.softcap is not None or rule.scale <= 0:
        raise ValueError("logits with a cap are not for this kernel")
    losses = torch.empty(len(logits), dtype=torch.float32)
    call("loss", own(logits), targets.contiguous(), losses, *logits.shape, rule.scale, wanted)
    return losses.sum()


def _gate(number: int) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda gate, up: cast(Tensor, _Gate.apply(gate, up, number))  # type: ignore[no-untyped-call]


class _NormContext(Context, Protocol):
    offset: float


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: _NormContext, x: Tensor, weight: Tensor, epsilon: float, offset: float, early: bool) -> Tensor:
        flat, weight = own(x.contiguous()), own(weight)
        result, rows = torch.empty_like(flat), flat.shape[:-1].numel()
        spread = torch.empty(rows, dtype=torch.float32)
        call("norm_forward", flat, weight, result, spread, rows, flat.shape[-1], epsilon, offset, early)
        ctx.save_for_backward(flat, weight, spread)
        ctx.offset = offset
        return result

    @staticmethod
    def backward(ctx: _NormContext, outer: Tensor) -> tuple[Tensor, None, None, None, None]:
        flat, weight, spread = ctx.saved_tensors
        gradient = torch.empty_like(flat)
        given = own(outer.contiguous())
        call("norm_backward", given, flat, weight, spread, gradient, len(spread), flat.shape[-1], ctx.offset)
        return gradient, None, None, None, None


class _GateContext(Context, Protocol):
    number: int


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: _GateContext, gate: Tensor, up: Tensor, number: int) -> Tensor:
        gate, up = own(gate.contiguous()), own(up.contiguous())
        result = torch.empty_like(gate)
        call("gate_forward", gate, up, result, gate.numel(), number)
        ctx.save_for_backward(gate, up)
        ctx.number = number
        return result

    @staticmethod
    def backward(ctx: _GateContext, outer: Tensor) -> tuple[Tensor, Tensor, None]:
        """The saved tensors become gradients in place: nothing else holds them, and a second pass would say so."""
        saved = ctx.saved_tensors  # once: a checkpointed layer computes them again for it
        gate, up = (t.detach() for t in saved)
        call("gate_backward", own(outer.contiguous()), gate, up, gate.numel(), ctx.number)
        torch.autograd.graph.increment_version(saved)
        return gate, up, None


class _Rotary(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Context, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        cos, sin = own(cos.contiguous()), own(sin.contiguous())
        ctx.save_for_backward(cos, sin)
        return _turn(x, cos, sin, False)

    @staticmethod
    def backward(ctx: Context, outer: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _turn(outer, cos, sin, True), None, None


def _turn(x: Tensor, cos: Tensor, sin: Tensor, back: bool) -> Tensor:
    rows, heads, length, width = x.shape
    if cos.shape[1:] != (length, width) or cos.shape != sin.shape or cos.shape[0] not in (1, rows) or width % 2:
        raise ValueError(f"angles of {tuple(cos.shape)} do not turn {tuple(x.shape)}")
    tokens = own(x.transpose(1, 2).contiguous())
    result = torch.empty_like(tokens)
    call("rotary", tokens, cos, sin, result, rows, length, heads, width, len(cos), back)
    return result.transpose(1, 2)
