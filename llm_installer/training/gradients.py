"""What happens to gradients between the last micro-batch and the optimizer: added up, cut to a rank, clipped.

They stay in the tensors they are in: somebody may have recorded where that is.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from accelerate import Accelerator
from peft import PeftModel
from torch import Tensor, nn

from llm_installer.distributed import processes
from llm_installer.training.fast.interface import FlatOptimizer


def of_each(trained: Sequence[nn.Parameter]) -> list[Tensor]:
    """The gradient of each parameter, zero where it had none."""
    for parameter in trained:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    return [p.grad for p in trained if p.grad is not None]


def add_up(accelerator: Accelerator, trained: Sequence[nn.Parameter], flat: FlatOptimizer | None) -> None:
    """Sum the gradients of all processes: adapters are small, so one exchange a step does."""
    if processes.count() == 1:
        return
    if flat and (found := flat.gradients()):
        for gradient in found:
            gradient.copy_(accelerator.reduce(gradient, reduction="sum"))
        return
    grads = [p.grad if p.grad is not None else torch.zeros_like(p) for p in trained]
    whole = accelerator.reduce(torch.cat([g.flatten() for g in grads]), reduction="sum")
    for parameter, part in zip(trained, whole.split([p.numel() for p in trained]), strict=True):
        if parameter.grad is None:
            parameter.grad = part.view_as(parameter)
        else:
            parameter.grad.copy_(part.view_as(parameter))


def keep_below(model: PeftModel, rank: int) -> None:
    """Take the gradient from the rows of A and the columns of B from a rank on."""
    for name, parameter in model.named_parameters():
        if parameter.grad is None:
            continue
        if ".lora_A." in name or ".lora_embedding_A." in name:
            parameter.grad[rank:] = 0
        elif ".lora_B." in name or ".lora_embedding_B." in name:
            parameter.grad[:, rank:] = 0


def clip(
    accelerator: Accelerator,
    optimizer: torch.optim.Optimizer,
    trained: Sequence[nn.Parameter],
    flat: FlatOptimizer | None,
    most: float,
) -> Tensor | None:
    """Scale gradients above a norm down to it; the norm before that."""
    if flat is None:
        norm: Tensor | None = accelerator.clip_grad_norm_(trained, most)
        return norm
    accelerator.unscale_gradients(optimizer)  # else once for each that accelerate has seen: all have these gradients
    return flat.clip(most)
