"""Builds the optimizer that the plan names, with a learning rate of its own for each group of parameters."""

from __future__ import annotations

from importlib import import_module
from typing import Protocol, cast

import torch
from peft import PeftModel
from torch import Tensor, nn

from llm_installer.planning.optimizers import OPTIMIZERS
from llm_installer.planning.plan import Plan
from llm_installer.training.fast.interface import FlatOptimizer

LEARNING_RATE_FACTOR = "rate_factor"
"""Key of a parameter group, in checkpoints too: the multiple of the plan's learning rate that it is trained with."""


class HasGroups(Protocol):
    """An optimizer, or accelerate's wrapper of one."""

    @property
    def param_groups(self) -> list[dict[str, object]]:
        """The groups of parameters, with the settings of each."""
        ...


def make_optimizer(
    model: PeftModel, plan: Plan, flat: FlatOptimizer | None = None, apart: bool = False
) -> torch.optim.Optimizer:
    """The plan's optimizer over everything that is trained: its adapters as the one tensor, or two, in which they lie,
    if it can tell no difference and need not keep them `apart`."""
    row = OPTIMIZERS[plan.method.optimizer]
    module, _, name = row.path.partition(":")
    made = getattr(import_module(module), name)
    groups = parameter_groups(model, plan.method.loraplus_ratio)
    if flat:
        flat.take(groups, row.elementwise and not apart)
    settings = {"lr": plan.learning_rate, "weight_decay": plan.weight_decay, **dict(row.settings)}
    optimizer: torch.optim.Optimizer = made(groups, **settings)
    set_learning_rate(optimizer, plan.learning_rate)
    if flat:
        optimizer.register_step_post_hook(flat.stepped)
    return optimizer


def parameter_groups(model: nn.Module, ratio: float) -> list[dict[str, object]]:
    """All that is trained in one group; with LoRA+ (Hayou et al., 2024, arXiv 2402.12354) a second one for every B,
    with `ratio` times the learning rate."""
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    if ratio == 1:
        return [{"params": [p for _, p in trained], LEARNING_RATE_FACTOR: 1.0}]
    fast = [p for name, p in trained if ".lora_B." in name]
    slow = [p for name, p in trained if ".lora_B." not in name]
    return [{"params": slow, LEARNING_RATE_FACTOR: 1.0}, {"params": fast, LEARNING_RATE_FACTOR: ratio}]


def set_learning_rate(optimizer: HasGroups, rate: float) -> None:
    """Train each group with its multiple of `rate`."""
    for group in optimizer.param_groups:
        factor = group[LEARNING_RATE_FACTOR]
        assert isinstance(factor, (int, float))
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate * factor)
        else:
            group["lr"] = rate * factor


def plain_rates(state: dict[str, object]) -> dict[str, object]:
    """An optimizer's state in which learning rates are numbers, wherever they are while it trains."""
    groups = []
    for group in cast(list[dict[str, object]], state["param_groups"]):
        rate = group["lr"]
        groups.append({**group, "lr": float(rate), "capturable": False} if isinstance(rate, Tensor) else group)
    return {**state, "param_groups": groups}
