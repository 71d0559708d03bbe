"""Rotary embeddings: another function for one attention layer, and one that is compiled."""

from __future__ import annotations

from collections.abc import Callable
from inspect import unwrap
from types import FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor, nn

from llm_installer.training.fast.compiled import compiled
from llm_installer.training.fast.pointwise import Way

Turn = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""Of queries, keys [rows, heads, length, width], cosines and sines [rows or 1, length, width]."""
ROTARY = "apply_rotary_pos_emb"
"""What families of transformers call to turn queries and keys."""


def turning_with(module: nn.Module, turn: Turn) -> list[Callable[..., Any]]:
    """An attention layer's own forward with another rotary embedding; none where the module is something else.

    The name is looked up in a copy of the forward's globals, so that no other model sees it.
    """
    own = unwrap(type(module).forward)
    if not isinstance(own, FunctionType) or ROTARY not in own.__code__.co_names or "forward" in vars(module):
        return []
    theirs = own.__globals__.get(ROTARY)
    if theirs is None:
        return []

    def rotary(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, *more: Any, **other: Any) -> Any:
        return theirs(q, k, cos, sin, *more, **other) if more or other else turn(q, k, cos, sin)

    names = {**own.__globals__, ROTARY: rotary}
    forward = FunctionType(own.__code__, names, own.__name__, own.__defaults__, own.__closure__)
    forward.__kwdefaults__ = own.__kwdefaults__
    return [MethodType(forward, module)]


def compiled_turn() -> Turn:
    """Queries and keys turned in one pass each, and their gradients turned back."""
    way = Way(compiled(_turned), compiled(_turned_back))

    def turn(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        both: tuple[Tensor, Tensor] = _Turn.apply(q, k, cos, sin, way)  # type: ignore[no-untyped-call]
        return both

    return turn


class _Turn(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, way: Way) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(cos, sin)
        ctx.way = way
        both: tuple[Tensor, Tensor] = way.forward(q.detach(), k.detach(), cos, sin)
        return both

    @staticmethod
    def backward(ctx: Any, for_q: Tensor, for_k: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        return (*ctx.way.backward(for_q, for_k, *ctx.saved_tensors), None, None, None)


def _turned(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)

    def turn(x: Tensor) -> Tensor:
        left, right = x.chunk(2, -1)
        return x * cos + torch.cat((-right, left), -1) * sin

    return turn(q), turn(k)


def _turned_back(for_q: Tensor, for_k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """The transpose of the turn: halves change places with the other sign."""
    cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)

    def back(g: Tensor) -> Tensor:
        left, right = (g * sin).chunk(2, -1)
        return g * cos + torch.cat((right, -left), -1)

    return back(for_q), back(for_k)
