"""The memory of every way to hold the model: what a plan chooses from, and what --dry-run shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from llm_installer.core.hardware import Hardware
from llm_installer.core.model_info import ModelInfo
from llm_installer.planning.fitting import memory_rows
from llm_installer.planning.lora import Method
from llm_installer.planning.memory import MemoryPlan, plan_memory

if TYPE_CHECKING:
    from llm_installer.planning.plan import Plan


def memory_of(
    info: ModelInfo, hardware: Hardware, precision: str, rank: int, targets: tuple[str, ...], method: Method,
    dropout: float,
) -> Callable[[str], MemoryPlan]:  # fmt: skip
    """The memory plan for each quantisation: "" for none, int8 or nf4. Fast adapters are for plain LoRA alone."""

    def planned(quantised: str) -> MemoryPlan:
        return plan_memory(
            info, dtype=precision, rank=rank, targets=targets, free_bytes=hardware.free_bytes, device=hardware.device,
            quantised=quantised, optimizer=method.optimizer,
            path="partly" if dropout or method.dora or quantised else "fused",
        )  # fmt: skip

    return planned


def memory_table(info: ModelInfo, hardware: Hardware, plan: Plan) -> list[tuple[str, str, str]]:
    """(setting, predicted peak, verdict) with the plan's tokens at once."""
    planned = memory_of(
        info, hardware, plan.precision, plan.lora_r, plan.target_modules, plan.method, plan.lora_dropout
    )  # fmt: skip
    return memory_rows(planned, plan.precision, plan.micro_batch_tokens)
