"""The memory of every way to hold the model: what a plan chooses from, and what --dry-run shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from llm_installer.core.hardware import Hardware
from llm_installer.core.model_info import ModelInfo
from llm_installer.planning.fitting import memory_rows
from llm_installer.planning.memory import FUSED, PARTLY, MemoryPlan, Path, plan_memory
from llm_installer.planning.method import Method

if TYPE_CHECKING:
    from llm_installer.planning.plan import Plan


def memory_of(
    info: ModelInfo, hardware: Hardware, precision: str, rank: int, targets: tuple[str, ...], method: Method,
    dropout: float, packed: bool,
) -> Callable[[str], MemoryPlan]:  # fmt: skip
    """The memory plan for each quantisation: "" for none, int8 or nf4."""

    def planned(quantised: str) -> MemoryPlan:
        return plan_memory(
            info, dtype=precision, rank=rank, targets=targets, free_bytes=hardware.free_bytes, device=hardware.device,
            quantised=quantised, optimizer=method.optimizer,
            path=path_of(quantised, method.dora, dropout, hardware.device, hardware.compiler), packed=packed,
        )  # fmt: skip

    return planned


def path_of(quantised: str, dora: bool, dropout: float, device: str, compiler: bool = False) -> Path:
    """How the layers are computed: what training/fast covers is plain LoRA above whole or 4-bit layers."""
    if compiler:
        return replace(path_of(quantised, dora, dropout, device), blocks=False)
    if not (quantised == "int8" or dora or dropout):
        return FUSED
    masks = (4 if device == "cpu" else 1) if dropout else 0
    return replace(PARTLY, masks=masks, outputs=dora, base_inputs=quantised == "int8")


def memory_table(info: ModelInfo, hardware: Hardware, plan: Plan) -> list[tuple[str, str, str]]:
    """(setting, predicted peak, verdict) with the plan's tokens at once."""
    planned = memory_of(
        info, hardware, plan.precision, plan.lora_r, plan.target_modules, plan.method, plan.lora_dropout,
        plan.packing,
    )  # fmt: skip
    return memory_rows(planned, plan.precision, plan.micro_batch_tokens)
