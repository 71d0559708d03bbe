"""Whether the passes over memory between matrix products are compiled, and why."""

from __future__ import annotations

from llm_installer.core.hardware import Hardware
from llm_installer.core.model_info import ModelInfo
from llm_installer.planning.flops import flops_per_token

PAYS_AFTER = 3600.0
"""Seconds of training: compiling takes up to ten of them and saves little or nothing (docs/performance.md)."""
USUAL_SPEED = 1.5e11
"""Operations per second and core: about what a training step reaches on a core with AVX512-BF16; others are slower."""


def choose_compiling(
    hardware: Hardware,
    info: ModelInfo,
    precision: str,
    rank: int,
    targets: tuple[str, ...],
    length: float,
    rows: float,
) -> tuple[bool, str]:
    """Whether to compile where the user leaves it open, for `rows` rows of mean `length` in the whole run.

    Whether there is a compiler, and whether what it makes is right, is tried before training.
    """
    if hardware.device != "cpu":
        return False, "only tried on CPUs"
    if hardware.compiler and precision == "bfloat16":
        return False, "kernels in C do that already"
    cost = flops_per_token(info, rank=rank, length=length, targets=targets)
    seconds = cost * rows * length / (USUAL_SPEED * max(1, hardware.cores))
    if seconds < PAYS_AFTER:
        return False, "the run is too short for it"
    return True, "the run is long enough for it to pay"
