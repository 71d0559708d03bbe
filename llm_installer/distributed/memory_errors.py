"""Errors that say memory ran out: in this process, or in another one of the run."""

from __future__ import annotations

import torch

_REFUSALS = ("not enough memory", "can't allocate memory", "cannot allocate memory", "out of memory")
"""How torch's allocators say it where they have no error type of their own."""


class RanOut(RuntimeError):
    """Memory ran out in one process or more, and all of them know."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocator refused: by type on a GPU, by its words elsewhere."""
    if isinstance(error, torch.cuda.OutOfMemoryError):
        return True
    words = str(error).lower()
    return isinstance(error, RuntimeError) and any(refusal in words for refusal in _REFUSALS)
