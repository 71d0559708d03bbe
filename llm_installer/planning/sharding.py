"""Whether the frozen base is sharded over the processes of a run, and what memory each of them then needs."""

from __future__ import annotations

from dataclasses import replace

from llm_installer.core.hardware import Hardware
from llm_installer.core.model_info import ModelInfo
from llm_installer.planning.compute_path import EAGER
from llm_installer.planning.layers import linears
from llm_installer.planning.memory import BYTES, LINEAR_BYTES, MemoryPlan, plan_memory, weight_bytes
from llm_installer.planning.options import Options
from llm_installer.planning.setup import Setup

SHARDED_BYTES = {"nf4": 0.5}
"""Bytes of a quantised weight that are sharded, where its scales are not."""
GATHERED_LAYERS = 2
"""Layers that are complete at one moment: the one that computes, and the next one on its way."""


def asked_processes(options: Options, hardware: Hardware) -> int:
    """How many processes will share the run, were all machines like this one."""
    if not (options.gpus or options.nnodes):
        return 1
    asked = options.gpus or "all"
    here = int(asked) if asked.isdecimal() else hardware.devices
    return max(1, here) * (options.nnodes or 1)


def shared_memory(setup: Setup, processes: int) -> tuple[MemoryPlan, bool]:
    """The memory plan of one of so many processes, and whether its base is sharded."""
    complete = plan_memory(setup)
    if processes == 1:
        return complete, False
    # The layers of a sharded base are computed by plain PEFT.
    held = shard_bytes(setup.model, BYTES[setup.precision], setup.method.quantised, processes)
    sharded = replace(plan_memory(setup, EAGER), weights=held)
    chosen = must_shard(complete, sharded, longest=setup.longest, device=setup.hardware.device)
    return (sharded, True) if chosen else (complete, False)


def must_shard(complete: MemoryPlan, sharded: MemoryPlan, *, longest: int, device: str) -> bool:
    """Whether the base has to be sharded over several processes: where it is complete on each, not even one row of
    `longest` tokens fits beside it, and where it is sharded, one does, or the complete one would not fit by itself.

    Processes on CPUs share one memory: sharding would gain nothing there.
    """
    most = complete.fitting_tokens(complete.layers)
    return device == "cuda" and most < longest and (most == 0 or sharded.fitting_tokens(sharded.layers) >= longest)


def shard_bytes(info: ModelInfo, size: int, quantised: str, processes: int) -> int:
    """Peak bytes of the base in one process: its shard, the gathered layers, and all that is not sharded.

    `size` is that of a number which is not quantised.
    """
    each = SHARDED_BYTES.get(quantised, LINEAR_BYTES[quantised] or size)
    layers = sum(n.parameters for n in linears(info)) * each
    rest = weight_bytes(info, size, quantised) - layers
    return int(rest + layers / processes + min(1.0, GATHERED_LAYERS / max(1, info.layers)) * layers)
