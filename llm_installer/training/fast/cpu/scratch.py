"""Memory for what lives no longer than a few operations: the next one finds it in the CPU's caches, faulted in already.

Fresh memory from the C library is cold, may have to be cleared by the system page by page, and leaves holes behind that
nothing of another size fits into.
Delete when PyTorch's allocator for CPUs caches blocks (torch 2.13 calls malloc), or with what uses it.
"""

from __future__ import annotations

import math
import threading

import torch
from torch import Tensor


class Scratch(threading.local):
    """Named pieces of memory, each thread's own."""

    LARGEST = 32 << 20
    """Bytes of a piece that stays; a larger one is made again each time."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, torch.dtype], Tensor] = {}

    def take(self, name: str, dtype: torch.dtype, *shape: int) -> Tensor:
        """A tensor on the CPU with anything in it; it is valid until the same name is asked for again."""
        count = math.prod(shape)
        if count * dtype.itemsize > self.LARGEST:
            return torch.empty(shape, dtype=dtype)
        held = self._held.get((name, dtype))
        if held is None or len(held) < count:
            # Made while answers are measured, it would else be of no use while gradients are.
            with torch.inference_mode(False):
                held = self._held[name, dtype] = torch.empty(count, dtype=dtype)
        return held[:count].view(shape)

    def copy(self, name: str, source: Tensor, dtype: torch.dtype) -> Tensor:
        """The same numbers in another type, one after the other; valid until the same name is asked for again."""
        return self.take(name, dtype, *source.shape).copy_(source)


scratch = Scratch()
