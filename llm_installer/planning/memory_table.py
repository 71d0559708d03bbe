"""The memory of every way to hold the model, for the plan that was made: what --dry-run shows."""

from __future__ import annotations

from llm_installer.core.hardware import Hardware
from llm_installer.core.model_info import ModelInfo
from llm_installer.planning.choices import memory_of
from llm_installer.planning.fitting import memory_rows
from llm_installer.planning.plan import Plan


def memory_table(info: ModelInfo, hardware: Hardware, plan: Plan) -> list[tuple[str, str, str]]:
    """(setting, predicted peak, verdict) with the plan's tokens at once."""
    planned = memory_of(info, hardware, plan.precision, plan.lora_r, plan.target_modules, 8.0, plan.lora_dropout)
    return memory_rows(planned, plan.precision, plan.micro_batch_tokens)
