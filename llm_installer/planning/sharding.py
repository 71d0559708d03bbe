"""Whether the frozen base is parted over the processes of a run, and what memory each of them then needs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from llm_installer.core.hardware import Hardware
from llm_installer.core.model_info import ModelInfo
from llm_installer.planning.memory import BYTES, LINEAR_BYTES, MemoryPlan, linears, must_part, plan_memory, weight_bytes
from llm_installer.planning.memory_table import memory_of
from llm_installer.planning.method import Method
from llm_installer.planning.options import Options

PACKED = {"nf4": 0.5}
"""Bytes of a weight that are parted, where its scales stay whole."""
WHOLE_LAYERS = 2
"""Layers that are whole at one moment: the one that computes, and the next one on its way."""


def asked_processes(options: Options, hardware: Hardware) -> int:
    """How many processes will share the run, were all machines like this one."""
    if not (options.gpus or options.nnodes):
        return 1
    asked = options.gpus or "all"
    here = int(asked) if asked.isdecimal() else hardware.devices
    return max(1, here) * (options.nnodes or 1)


def shared_memory(
    info: ModelInfo, hardware: Hardware, precision: str, rank: int, targets: tuple[str, ...], method: Method,
    dropout: float, packed: bool, longest: int, processes: int,
) -> Callable[[str], tuple[MemoryPlan, bool]]:  # fmt: skip
    """For each quantisation, "" for none: the memory plan of one of the processes, and whether its base is parted."""
    whole_of = memory_of(info, hardware, precision, rank, targets, method, dropout, packed)

    def planned(quantised: str) -> tuple[MemoryPlan, bool]:
        whole = whole_of(quantised)
        if processes == 1:
            return whole, False
        # The layers of a parted base are computed by plain PEFT.
        plain = plan_memory(
            info, dtype=precision, rank=rank, targets=targets, free_bytes=hardware.free_bytes, device=hardware.device,
            quantised=quantised, optimizer=method.optimizer, packed=packed,
        )  # fmt: skip
        held = part_bytes(info, BYTES[precision], quantised, processes)
        parted = dataclasses.replace(plain, weights=held)
        chosen = must_part(whole, parted, longest=longest, device=hardware.device)
        return (parted, True) if chosen else (whole, False)

    return planned


def part_bytes(info: ModelInfo, size: int, quantised: str, processes: int) -> int:
    """Bytes of the base that one process holds at most: its part, the whole layers, and all that is not parted.

    `size` is that of a number which is not quantised.
    """
    each = PACKED.get(quantised, LINEAR_BYTES[quantised] or size)
    layers = sum(n.parameters for n in linears(info)) * each
    rest = weight_bytes(info, size, quantised) - layers
    return int(rest + layers / processes + min(1.0, WHOLE_LAYERS / max(1, info.layers)) * layers)
