"""Copies to a GPU that nothing waits for: from pinned memory, beside what the GPU is computing.

From ordinary memory CUDA would first finish all it has been given. Delete when Tensor.to does that by itself; ids of a
micro-batch are small, so what counts is the wait, about 7 of which a step of other trainers has.
"""

from __future__ import annotations

import torch
from torch import Tensor


def pinned_to_device(data: Tensor, device: torch.device | str) -> Tensor:
    """The same numbers on the device, by way of pinned memory where that is a GPU."""
    if torch.device(device).type != "cuda":
        return data.to(device)
    return data.pin_memory().to(device, non_blocking=True)
