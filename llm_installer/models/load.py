"""The model of a job with its LoRA: whole on this process's device, or parted over all processes."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from llm_installer.core.errors import UsageError
from llm_installer.core.hardware import probe_hardware
from llm_installer.planning.sharding import shared_memory

if TYPE_CHECKING:
    from peft import PeftModel

    from llm_installer.runs.job import Job


def load_model(job: Job) -> tuple[PeftModel, bool, str]:
    """The model with its LoRA, on its device or parted over all processes (then True), and what was not quantised."""
    from llm_installer.distributed.processes import count, device_of, of_main
    from llm_installer.distributed.sharding import shard_base
    from llm_installer.models.base import add_lora, load_base
    from llm_installer.models.quantise import whole_line

    plan, packed = job.plan, job.plan.method.quantised
    parted = of_main(partial(_parted, job, count()))
    if parted and packed == "int8":
        raise UsageError("A base in 8 bits that no GPU holds cannot be parted over several; use --use-4bit instead")
    if parted and job.prompts:
        raise UsageError("--eval-prompts needs a model that one GPU holds; leave it out")
    base = load_base(job.info.path, plan.precision, "cpu" if parted else device_of(plan.device), packed)
    whole = whole_line(base) if packed else ""
    model = add_lora(base, plan)
    if parted:
        shard_base(model, plan.device)
    return model, parted, whole


def _parted(job: Job, processes: int) -> bool:
    """Whether the base is parted over so many processes, by the memory that is free now."""
    plan = job.plan
    planned = shared_memory(
        job.info, probe_hardware(), plan.precision, plan.lora_r, plan.target_modules, plan.method, plan.lora_dropout,
        plan.packing, plan.max_seq_length, processes,
    )  # fmt: skip
    return planned(plan.method.quantised)[1]
