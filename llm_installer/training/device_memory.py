"""Memory while a run lasts: what was the most, when it ran out, and which layers keep nothing for the backward pass."""

from __future__ import annotations

import gc
import resource
import sys
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from llm_installer.training.fast.cpu.allocator import give_back_freed_memory, give_back_now
from llm_installer.training.fast.lora import forget_half_done

_REFUSALS = ("not enough memory", "can't allocate memory", "cannot allocate memory", "out of memory")
"""How torch's allocators say it where they have no error type of their own."""


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


class FreedMemory:
    """Keeps what a micro-batch frees for the next one, but no more than one needs.

    Each leaves small blocks behind between the large ones (such as what oneDNN remembers of a new shape), so the next
    finds no place of its size and takes new memory: unwatched, a process holds several times what it uses.
    """

    SPARE = 1.7
    """Held at most, as a multiple of what one micro-batch has needed."""
    LITTLE = 64 << 20
    """Bytes that are not worth the page faults."""

    def __init__(self) -> None:
        give_back_now()
        self._floor, self._needed, self._tokens, self._fresh = resident_bytes(), 0.0, 0, True

    def part_done(self, tokens: int) -> None:
        """Nothing of a micro-batch of so many tokens is needed any longer: give back what is held beyond the usual.

        One that is larger than all before may need as much more as it is larger.
        """
        held = resident_bytes() - self._floor
        if self._fresh:
            self._needed, self._fresh = max(self._needed, held), False
        elif tokens > self._tokens > 0:
            self._needed = max(self._needed, min(held, self._needed * tokens / self._tokens))
        self._tokens = max(self._tokens, tokens)
        if held > max(self.LITTLE, self.SPARE * self._needed):
            give_back_now()
            self._floor, self._fresh = resident_bytes(), True


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


def release(model: nn.Module, device: str) -> None:
    """Give back what failed work left behind: outputs nobody collected, reference cycles, the allocator's cache."""
    forget_half_done(model)
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()


def checkpoint_layers(model: nn.Module, count: int) -> int:
    """Let the first `count` trained layers compute their forward pass twice instead of keeping it; how many now do.

    The first ones, because their turn in the backward pass comes when the other layers' share is gone again. Fewer than
    `count` where the model has fewer, or where its family cannot (0).
    """
    trained = checkpointable(model)
    if count and trained and next(trained[0].parameters()).device.type == "cpu":
        give_back_freed_memory()
    for i, layer in enumerate(trained):
        layer.gradient_checkpointing = i < count
        vars(layer)["_gradient_checkpointing_func"] = partial(checkpoint, use_reentrant=False)
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
