"""How much arithmetic this machine can do: by the GPU's name, else one short measured matrix product."""

from __future__ import annotations

import time
from functools import cache

import torch

from llm_installer.core.hardware import Hardware
from llm_installer.planning.flops import known_limit
from llm_installer.training.model import DTYPES

SIDE, LONGEST = 1024, 0.2
"""Rows and columns of the measured product, and the seconds it may be repeated for."""


def machine_limit(hardware: Hardware, precision: str) -> float:
    """Operations per second in `precision` that this machine could reach; on a GPU always its bfloat16 limit."""
    return known_limit(hardware.name) or measured_limit(hardware.device, precision)


@cache
def measured_limit(device: str, precision: str) -> float:
    """The best of a few square matrix products, measured once per process."""
    left, right = (torch.randn(SIDE, SIDE, device=device, dtype=DTYPES[precision]) for _ in range(2))
    best, started = 0.0, time.perf_counter()
    while time.perf_counter() - started < LONGEST or not best:
        before = time.perf_counter()
        torch.mm(left, right)
        if device == "cuda":
            torch.cuda.synchronize()
        best = max(best, 2 * SIDE**3 / (time.perf_counter() - before))
    return best
