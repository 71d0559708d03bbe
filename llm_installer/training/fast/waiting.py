"""What keeps a step from waiting for the device: copies that need no answer, and no questions whose answer is known."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import masking_utils

SEARCH = "find_packed_sequence_indices"
"""transformers' search for documents in the positions of a row, which asks the device whether it found any."""


def upload(data: Tensor, device: Any) -> Tensor:
    """The same on the device. From ordinary memory CUDA would first finish all it has been given."""
    if torch.device(device).type != "cuda":
        return data.to(device)
    return data.pin_memory().to(device, non_blocking=True)


@contextmanager
def borders_known(known: bool = True) -> Iterator[None]:
    """Let transformers not search for documents: a row is one, or its attention is told where they end."""
    own = getattr(masking_utils, SEARCH, None)
    if own is None or not known:
        yield
        return
    setattr(masking_utils, SEARCH, lambda _positions: None)
    try:
        yield
    finally:
        setattr(masking_utils, SEARCH, own)
