"""Memory while a run lasts: its peak, what failed work leaves behind, and which layers are checkpointed."""

from __future__ import annotations

import gc
from functools import partial

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from llm_installer.core.process_memory import forget_peak_resident, peak_resident_bytes
from llm_installer.training.fast.interface import drops


def peak_bytes(device: str) -> int:
    """Peak memory so far in bytes: of this process on a CPU, of torch's tensors on the GPU it uses."""
    if device == "cuda":
        return int(torch.cuda.max_memory_allocated())
    if device == "mps":
        return int(torch.mps.driver_allocated_memory())
    return peak_resident_bytes()


def forget_peak(device: str) -> bool:
    """Start measuring the peak afresh; False where the system cannot, and the peak then covers the whole process."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return True
    return forget_peak_resident()


def release(device: str) -> None:
    """Give back what failed work left behind: reference cycles, and what the allocator reserves for next time."""
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()


def checkpoint_layers(model: nn.Module, count: int) -> int:
    """Checkpoint the first `count` trained layers: they recompute their activations in the backward pass. How many do.

    The first ones, because their turn in the backward pass comes when the activations of the others are gone again.
    Fewer than `count` where the model has fewer, or 0 where its family cannot.
    """
    trained = checkpointable(model)
    # Random numbers are only kept where any are drawn: a CUDA graph may not ask for the state of their generator.
    again = partial(checkpoint, use_reentrant=False, preserve_rng_state=drops(model))
    for i, layer in enumerate(trained):
        layer.gradient_checkpointing = i < count
        vars(layer)["_gradient_checkpointing_func"] = again
    return min(max(0, count), len(trained))


def checkpointable(model: nn.Module) -> list[GradientCheckpointingLayer]:
    """The layers that can be checkpointed and hold something trained, in their order."""
    return [
        module
        for module in model.modules()
        if isinstance(module, GradientCheckpointingLayer) and any(p.requires_grad for p in module.parameters())
    ]
