"""Memory while a run lasts: what was the most, when it ran out, and which layers keep nothing for the backward pass."""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

_REFUSALS = ("not enough memory", "can't allocate memory", "cannot allocate memory", "out of memory")
"""How torch's allocators say it where they have no error type of their own."""

_MMAP_THRESHOLD = -3
"""Number of M_MMAP_THRESHOLD in malloc.h."""


def peak_bytes(device: str) -> int:
    """The most memory so far: of this process on a CPU, of torch on the GPU it uses."""
    if device == "cuda":
        return int(torch.cuda.max_memory_allocated())
    if device == "mps":
        return int(torch.mps.driver_allocated_memory())
    status = Path("/proc/self/status")
    if not status.exists():
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024
    return _status(status, "VmHWM")


def resident_bytes() -> int:
    """Memory this process holds at this moment; 0 where the system does not say."""
    status = Path("/proc/self/status")
    return _status(status, "VmRSS") if status.exists() else 0


def forget_peak(device: str) -> bool:
    """Start measuring the peak afresh; False where the system cannot, and the peak then covers the whole process."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return True
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocator refused: by type on a GPU, by its words elsewhere."""
    if isinstance(error, torch.cuda.OutOfMemoryError):
        return True
    words = str(error).lower()
    return isinstance(error, RuntimeError) and any(refusal in words for refusal in _REFUSALS)


def release(device: str) -> None:
    """Give back what failed work left behind: reference cycles of its traceback, then the allocator's cache."""
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()


def give_back_blocks() -> None:
    """Have the C library return each freed block of a megabyte at once, so that the process holds what tensors need.

    Left alone, glibc keeps freed blocks for the next request, and before 2.38 an aligned request of the same size does
    not fit into them: a process can hold five times what its tensors fill. Returning costs time (page faults), so this
    is for runs whose memory is short. Only glibc has the setting.
    """
    if sys.platform == "linux" and "CS_GNU_LIBC_VERSION" in os.confstr_names:
        ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, 1 << 20)


def checkpoint_layers(model: nn.Module, count: int) -> int:
    """Let the first `count` trained layers compute their forward pass twice instead of keeping it; how many now do.

    The first ones, because their turn in the backward pass comes when the other layers' share is gone again. Fewer than
    `count` where the model has fewer, or where its family cannot (0).
    """
    trained = checkpointable(model)
    if count and trained and next(trained[0].parameters()).device.type == "cpu":
        give_back_blocks()
    for i, layer in enumerate(trained):
        layer.gradient_checkpointing = i < count
        again: Any = partial(checkpoint, use_reentrant=False)
        layer._gradient_checkpointing_func = again
    return min(max(0, count), len(trained))


def checkpointable(model: nn.Module) -> list[GradientCheckpointingLayer]:
    """The layers that can be checkpointed and hold something trained, in their order."""
    return [
        module
        for module in model.modules()
        if isinstance(module, GradientCheckpointingLayer) and any(p.requires_grad for p in module.parameters())
    ]


def _status(file: Path, name: str) -> int:
    lines = (line.split() for line in file.read_text(encoding="ascii", errors="replace").splitlines())
    return next((int(words[1]) * 1024 for words in lines if words and words[0] == f"{name}:"), 0)
