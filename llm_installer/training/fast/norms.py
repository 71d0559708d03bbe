"""RMS norms (Zhang and Sennrich, 2019, arXiv 1910.07467) that keep their input and one number a row for the gradient.

Delete when transformers' RMS norms call torch.nn.functional.rms_norm and that keeps no float32 copy of its input on a
CPU; in transformers 5.23 each norm is a chain of seven operations that keeps two.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from llm_installer.training.fast.compiled import Compiler, compiled
from llm_installer.training.fast.context import Context
from llm_installer.training.fast.cpu.scratch import scratch

ROWS = 512
"""Rows worked on at once on a CPU, so that the float32 values stay in the cache."""


@dataclass(frozen=True)
class Norm:
    """One way to compute an RMS norm over rows [n, width]."""

    forward: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    """(result, 1 / root of the mean square [n, 1] in float32), of rows and weight."""
    backward: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
    """The gradient by the rows, of the result's gradient, rows, weight, and 1 / root."""


def rms_norm(module: nn.Module) -> tuple[Tensor, float] | None:
    """(weight, epsilon) of a frozen RMS norm; None for any other module."""
    weight = getattr(module, "weight", None)
    epsilon = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    if not type(module).__name__.endswith("RMSNorm") or weight is None or epsilon is None or weight.requires_grad:
        return None
    return weight, float(epsilon)


def norm_forward(module: nn.Module, compiler: Compiler | None) -> Callable[[Tensor], Tensor] | None:
    """The forward of a frozen RMS norm, compiled where there is a compiler; None for any other module."""
    found = rms_norm(module)
    if found is None:
        return None
    weight, epsilon = found
    gemma = not hasattr(module, "variance_epsilon")  # Gemma keeps weight - 1, and casts after the product
    key = (epsilon, gemma)
    norm = compiler.once(("norm", *key), lambda: compiled_norm(*key)) if compiler else eager_norm(*key)

    def forward(x: Tensor) -> Tensor:
        result: Tensor = _Norm.apply(x, weight, norm)  # type: ignore[no-untyped-call]
        return result

    return forward


class _NormContext(Context, Protocol):
    norm: Norm


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: _NormContext, x: Tensor, weight: Tensor, norm: Norm) -> Tensor:
        result, root = norm.forward(x.detach().reshape(-1, x.shape[-1]), weight)
        ctx.save_for_backward(x, weight, root)
        ctx.norm = norm
        # Not a view, as in _FusedLora: a model may change it in place.
        return cast(Tensor, torch.ops.aten._unsafe_view(result, x.shape))

    @staticmethod
    def backward(ctx: _NormContext, outer: Tensor) -> tuple[Tensor, None, None]:
        x, weight, root = ctx.saved_tensors
        rows, outers = (t.reshape(-1, x.shape[-1]) for t in (x.detach(), outer))
        return ctx.norm.backward(outers, rows, weight, root).view(x.shape), None, None


def eager_norm(epsilon: float, gemma: bool) -> Norm:
    """A norm over some rows at a time."""

    def forward(flat: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        result = torch.empty_like(flat)
        root = flat.new_empty(len(flat), 1, dtype=torch.float32)
        factor = weight.float().add(1.0) if gemma else weight
        for rows in _spans(flat):
            wide = _wide("norm", flat[rows])
            torch.mean(torch.mul(wide, wide, out=_like("norm square", wide)), -1, keepdim=True, out=root[rows])
            wide.mul_(root[rows].add_(epsilon).rsqrt_())
            if gemma:
                result[rows] = wide.mul_(factor)
            else:
                result[rows].copy_(wide).mul_(factor)
        return result, root

    def backward(outer: Tensor, flat: Tensor, weight: Tensor, root: Tensor) -> Tensor:
        factor = weight.float().add(1.0) if gemma else weight.float()
        result = torch.empty_like(flat)
        for rows in _spans(flat):
            scaled, wide, roots = (
                _wide("norm gradient", outer[rows]).mul_(factor),
                _wide("norm", flat[rows]),
                root[rows],
            )
            # root * (scaled - x * root^2 * mean(scaled * x)), in few passes
            product = torch.mul(scaled, wide, out=_like("norm square", wide))
            shared = product.mean(-1, keepdim=True).mul_(roots).mul_(roots)
            result[rows] = scaled.addcmul_(wide, shared, value=-1).mul_(roots)
        return result

    return Norm(forward, backward)


def compiled_norm(epsilon: float, gemma: bool) -> Norm:
    """The same in one pass over memory forward and one backward."""

    def forward(flat: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        wide = flat.float()
        root = torch.rsqrt(wide.square().mean(-1, keepdim=True) + epsilon)
        if gemma:
            return (wide * root * (weight.float() + 1.0)).to(flat.dtype), root
        return (wide * root).to(flat.dtype) * weight, root

    def backward(outer: Tensor, flat: Tensor, weight: Tensor, root: Tensor) -> Tensor:
        scaled = outer.float() * (weight.float() + 1.0 if gemma else weight.float())
        wide = flat.float()
        shared = (scaled * wide).mean(-1, keepdim=True) * root * root
        return ((scaled - wide * shared) * root).to(flat.dtype)

    return Norm(compiled(forward), compiled(backward))


def _wide(name: str, source: Tensor) -> Tensor:
    """A copy in float32, to be changed."""
    if source.device.type == "cpu":
        return scratch.copy(name, source, torch.float32)
    return source.to(torch.float32, copy=True)


def _like(name: str, other: Tensor) -> Tensor:
    """As large, with anything in it."""
    if other.device.type == "cpu":
        return scratch.take(name, other.dtype, *other.shape)
    return torch.empty_like(other)


def _spans(flat: Tensor) -> list[slice]:
    step = ROWS if flat.device.type == "cpu" else max(1, len(flat))
    return [slice(start, start + step) for start in range(0, len(flat), step)]
