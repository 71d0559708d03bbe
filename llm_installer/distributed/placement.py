"""The model of a run with its LoRA: complete on this process's device, or sharded over all processes."""

from __future__ import annotations

from dataclasses import dataclass

from peft import PeftModel

from llm_installer.core.errors import UsageError
from llm_installer.core.hardware import probe_hardware
from llm_installer.core.model_info import ModelInfo
from llm_installer.distributed.processes import count, device_of, of_main
from llm_installer.distributed.sharding import shard_base
from llm_installer.models.base import add_lora, load_base
from llm_installer.models.proof import refuse_broken
from llm_installer.models.quantise import unquantised_line
from llm_installer.planning.method import FLOAT8
from llm_installer.planning.plan import Plan
from llm_installer.planning.sharding import shared_memory


@dataclass(frozen=True)
class Loaded:
    """A model ready to train."""

    model: PeftModel
    sharded: bool
    """Whether its base is divided over all processes."""
    unquantised: str
    """A sentence about weights that were to be quantised and could not be; empty where there are none."""


def load_model(info: ModelInfo, plan: Plan, answering: bool = False) -> Loaded:
    """Load the plan's base and put its LoRA on it, on this process's device or sharded over all.

    `answering` says that the model must generate while it trains. Raises UsageError for what a sharded base cannot do,
    and ModelError where the model cannot be loaded.
    """
    quantised = plan.method.quantised
    sharded = of_main(lambda: must_shard(info, plan, count()))
    if sharded and quantised == "int8":
        raise UsageError("A base in 8 bits that does not fit one GPU cannot be sharded; use --use-4bit instead")
    if sharded and quantised == FLOAT8:
        raise UsageError("A base in float8 that does not fit one GPU cannot be sharded; use --method qlora instead")
    if sharded and answering:
        raise UsageError("--eval-prompts needs a model that fits one GPU; leave it out")
    base = load_base(info.path, plan.precision, "cpu" if sharded else device_of(plan.device), quantised)
    if not sharded:
        refuse_broken(base, info.path)
    unquantised = unquantised_line(base, bool(info.stored.kept), quantised == FLOAT8) if quantised else ""
    model = add_lora(base, plan)
    if sharded:
        shard_base(model, plan.device)
    return Loaded(model, sharded, unquantised)


def must_shard(info: ModelInfo, plan: Plan, processes: int) -> bool:
    """Whether the base is sharded over so many processes, by the memory that is free now."""
    return shared_memory(plan.setup(info, probe_hardware()), processes)[1]
