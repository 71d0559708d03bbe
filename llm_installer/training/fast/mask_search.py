"""Lets transformers not look for documents in the positions of a row: that asks the device, and the answer is known.

transformers 5.23 takes no argument for it: unless there is a mask, a 2D one of ones included, whose look costs as much,
create_causal_mask calls find_packed_sequence_indices. So that function is replaced once, by one that looks as before
except in the context of a model call that has said that nothing is to be found.
Delete when create_causal_mask has such an argument, or no longer waits for the device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps

from torch import Tensor
from transformers import masking_utils

SEARCH = "find_packed_sequence_indices"
Search = Callable[[Tensor], "Tensor | None"]
_KNOWN: ContextVar[bool] = ContextVar("known", default=False)


@contextmanager
def without_search(known: bool = True) -> Iterator[None]:
    """In here, and in this thread, rows are one document each, or their attention is told where documents end."""
    own: Search | None = getattr(masking_utils, SEARCH, None)
    if own is None or not known:
        yield
        return
    if not hasattr(own, "__wrapped__"):
        setattr(masking_utils, SEARCH, _only_where_unknown(own))
    token = _KNOWN.set(True)
    try:
        yield
    finally:
        _KNOWN.reset(token)


def _only_where_unknown(own: Search) -> Search:
    @wraps(own)
    def search(position_ids: Tensor) -> Tensor | None:
        return None if _KNOWN.get() else own(position_ids)

    return search
