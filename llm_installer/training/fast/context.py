"""Types that PyTorch and transformers leave open, as they are used by the fast paths."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn


class Context(Protocol):
    """What an autograd.Function is given to remember things by from its forward to its backward pass."""

    saved_tensors: tuple[Tensor, ...]
    needs_input_grad: tuple[bool, ...]

    def save_for_backward(self, *tensors: Tensor) -> None:
        """Keep tensors for the backward pass."""
        ...


class Forward(Protocol):
    """The forward of a module, whatever it takes: only its first output is looked at."""

    def __call__(self, *args: object, **kwargs: object) -> Tensor | tuple[Tensor, ...]:
        """Compute the output."""
        ...


class Attention(Protocol):
    """Attention as transformers' AttentionInterface calls it: query [rows, heads, length, width], key and value [rows,
    key heads, length, width]; the first result is [rows, length, heads, width]."""

    def __call__(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        **more: object,
    ) -> tuple[Tensor, None]:
        """Compute it."""
        ...
