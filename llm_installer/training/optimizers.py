"""Builds the optimizer that the plan names, with a rate of its own for each group of parameters."""

from __future__ import annotations

import logging
from importlib import import_module
from typing import Any

import torch
from peft import PeftModel
from torch import nn

from llm_installer.core.errors import TrainingError
from llm_installer.planning.method import Method
from llm_installer.planning.optimizers import BITSANDBYTES, OPTIMIZERS
from llm_installer.planning.plan import Plan

RATE_FACTOR = "rate_factor"
"""Key of a parameter group: the multiple of the plan's rate at which it learns."""


def check_ready(method: Method) -> None:
    """Raise TrainingError when the method needs bitsandbytes and that cannot be used; before a weight is loaded."""
    if OPTIMIZERS[method.optimizer].library == BITSANDBYTES:
        _bitsandbytes(f"--optimizer {method.optimizer}")
    if method.quantised:
        _bitsandbytes("a quantised base")


def make_optimizer(model: PeftModel, plan: Plan) -> torch.optim.Optimizer:
    """The plan's optimizer over everything that is trained."""
    row = OPTIMIZERS[plan.method.optimizer]
    module, _, name = row.path.partition(":")
    made = getattr(import_module(module), name)
    settings: dict[str, Any] = dict(row.settings)
    groups = parameter_groups(model, plan.method.loraplus_ratio)
    optimizer: torch.optim.Optimizer = made(groups, lr=plan.learning_rate, weight_decay=plan.weight_decay, **settings)
    set_rate(optimizer, plan.learning_rate)
    optimizer.register_step_post_hook(_note_changes)
    return optimizer


def parameter_groups(model: nn.Module, ratio: float) -> list[dict[str, Any]]:
    """All that is trained in one group; with LoRA+ a second one for every B, which learns `ratio` times faster."""
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    if ratio == 1:
        return [{"params": [p for _, p in trained], RATE_FACTOR: 1.0}]
    fast = [p for name, p in trained if ".lora_B." in name]
    slow = [p for name, p in trained if ".lora_B." not in name]
    return [{"params": slow, RATE_FACTOR: 1.0}, {"params": fast, RATE_FACTOR: ratio}]


def set_rate(optimizer: Any, rate: float) -> None:
    """Let each group learn at its multiple of `rate`."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group[RATE_FACTOR]


def _note_changes(optimizer: torch.optim.Optimizer, *_args: object) -> None:
    """Count the change of each parameter: torch's fused kernels and bitsandbytes write without counting.

    The fused LoRA keeps copies of the adapters in the compute type for as long as that count stays.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            torch.autograd.graph.increment_version(parameter)


def _bitsandbytes(wanted: str) -> None:
    """Import it without its remarks about kernels it could download."""
    logging.getLogger(BITSANDBYTES).setLevel(logging.ERROR)
    try:
        import_module("bitsandbytes.nn")
        import_module("bitsandbytes.optim")
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise TrainingError(
            f"bitsandbytes, which {wanted} needs, cannot be used here ({first}); "
            "install it with pip install bitsandbytes, or leave that out"
        ) from None
