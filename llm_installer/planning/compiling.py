"""Whether the passes over memory between matrix products go through torch.compile, and why."""

from __future__ import annotations

from llm_installer.planning.flops import flops_per_token
from llm_installer.planning.setup import Setup

PAYS_AFTER = 3600.0
"""Seconds of training: compiling takes up to ten of them and saves little or nothing (docs/concepts/performance.md)."""
USUAL_SPEED = 1.5e11
"""FLOPs per second and core: about what a training step reaches on a core with AVX512-BF16; others are slower."""


def choose_compiling(setup: Setup, length: float, rows: float) -> tuple[bool, str]:
    """Whether to compile where the user leaves it open, for `rows` rows of mean `length` tokens in the whole run.

    Whether there is a compiler, and whether what it makes is right, is tried before training.
    """
    hardware = setup.hardware
    if hardware.device != "cpu":
        return False, "only used on CPUs"
    if hardware.compiler and setup.precision == "bfloat16":
        return False, "kernels in C do that already"
    cost = flops_per_token(setup.model, rank=setup.adapters.rank, length=length, targets=setup.adapters.targets)
    seconds = cost * rows * length / (USUAL_SPEED * max(1, hardware.cores))
    if seconds < PAYS_AFTER:
        return False, "the run is too short to gain from it"
    return True, "the run is long enough to gain from it"
