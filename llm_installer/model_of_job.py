"""The model of a job with its LoRA: whole on this process's device, or parted over all processes."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from llm_installer.core.errors import UsageError
from llm_installer.core.hardware import probe_hardware
from llm_installer.planning.memory import must_part

if TYPE_CHECKING:
    from peft import PeftModel

    from llm_installer.job import Job


def load_model(job: Job) -> tuple[PeftModel, bool, str]:
    """The model with its LoRA, on its device or parted over all processes (then True), and what was not quantised."""
    from llm_installer.training.model import add_lora, load_base
    from llm_installer.training.processes import count, device_of, of_main
    from llm_installer.training.quantise import whole_line

    plan, device, packed = job.plan, job.plan.device, job.plan.method.quantised
    free = probe_hardware().free_bytes
    part = partial(must_part, job.info, dtype=plan.precision, quantised=packed, device=device, free_bytes=free)
    if of_main(partial(part, processes=count())):
        return _load_parted(job), True, ""
    base = load_base(job.info.path, plan.precision, device_of(device), packed)
    whole = whole_line(base) if packed else ""
    return add_lora(base, plan), False, whole


def _load_parted(job: Job) -> PeftModel:
    """The model with its base parted over all processes. Raises UsageError for what cannot be had with that."""
    from llm_installer.training.model import add_lora, load_base
    from llm_installer.training.sharding import shard_base

    plan = job.plan
    if plan.method.quantised:
        raise UsageError("A quantised base that no GPU holds cannot be parted over several; choose a smaller model")
    if job.prompts:
        raise UsageError("--eval-prompts needs a model that one GPU holds; leave it out")
    model = add_lora(load_base(job.info.path, plan.precision, "cpu", ""), plan)
    shard_base(model, plan.device)
    return model
