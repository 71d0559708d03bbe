"""Which set of kernels a device has: liger's on CUDA, those in C on a CPU that computes in bfloat16.

Delete with kernel_set.py.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec

import torch
from torch import nn

from llm_installer.core.hints import pip
from llm_installer.training.fast.cpu.native import functions as native
from llm_installer.training.fast.cross_entropy import LogitRule, Score
from llm_installer.training.fast.cuda.liger import load_kernels
from llm_installer.training.fast.kernel_set import FAILURES, Kernels, first, put_on, scores_alike

WITHOUT = "PyTorch's own norms, gates and rotary embeddings"


def fuse_kernels(model: nn.Module, wanted: bool = True) -> list[str]:
    """Replace what can be replaced; sentences that say what was done or why not."""
    weight = model.get_input_embeddings().weight  # type: ignore[operator]
    kernels, why = choose(weight.device.type, weight.dtype, wanted)
    if kernels is None:
        return [why] if why else []
    return put_on(model, kernels)


def loss_kernel(head: nn.Linear, rule: LogitRule, wanted: bool = True) -> Score | None:
    """The loss of a chunk of logits, where this output layer's loss and gradient agree with it; else None."""
    kernels, _ = choose(head.weight.device.type, head.weight.dtype, wanted)
    return kernels.score if kernels and scores_alike(kernels, head, rule) else None


def ignores(head: nn.Linear, wanted: bool = True) -> bool:
    """Whether the loss of a chunk of logits knows targets that count for nothing."""
    kernels, _ = choose(head.weight.device.type, head.weight.dtype, wanted)
    return bool(kernels and kernels.ignores)


@lru_cache(maxsize=8)
def choose(device: str, dtype: torch.dtype, wanted: bool = True) -> tuple[Kernels | None, str]:
    """The kernels for a device, or a sentence that says why there are none; no word where they were never asked for.

    `wanted` is whether code may be compiled for this run.
    """
    if not wanted:
        return None, ""
    if device == "cpu" and dtype == torch.bfloat16:
        return native.load_kernels()
    if device != "cuda":
        return None, ""
    if find_spec("liger_kernel") is None:
        return None, f"{WITHOUT}: {pip('liger-kernel')} brings faster ones"
    try:
        return load_kernels(), ""
    except FAILURES as error:
        return None, f"{WITHOUT}: liger-kernel cannot be used ({first(error)})"
