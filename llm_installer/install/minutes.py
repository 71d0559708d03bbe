"""How long a usual training of a model would take here, before any of its weights is there: from its arithmetic."""

from __future__ import annotations

import time

from llm_installer.core.hardware import Hardware
from llm_installer.core.model_info import ModelInfo
from llm_installer.core.text import span
from llm_installer.planning.chooser import DataFacts
from llm_installer.planning.elsewhere import LAUNCHES, seconds_on, work_of
from llm_installer.planning.flops import known_peak_flops
from llm_installer.planning.plan import Plan

SIDE, SECONDS = 512, 0.2
"""Rows and columns of the products that are timed on a CPU, and for how long."""
CPU_SHARES = (0.15, 0.6)
"""Least and most of what those products reach that a training on a CPU does."""


def usual_time(info: ModelInfo, plan: Plan, data: DataFacts, hardware: Hardware) -> str:
    """A range in words; empty for a GPU whose speed is not known."""
    cpu = hardware.device == "cpu"
    peak = _products() if cpu else known_peak_flops(hardware.name)
    if not peak:
        return ""
    work, steps = work_of(info, plan, data.mean_length, data.rows)
    low, high = CPU_SHARES
    if cpu:
        return span(work / (high * peak), work / (low * peak))
    return span(*seconds_on(peak, work, steps * info.layers * LAUNCHES))


def _products() -> float:
    """Operations per second of this CPU, in the best of a few matrix products."""
    import numpy as np

    left = np.ones((SIDE, SIDE), dtype=np.float32)
    best, started = 0.0, time.perf_counter()
    while time.perf_counter() - started < SECONDS or not best:
        before = time.perf_counter()
        left @ left
        best = max(best, 2 * SIDE**3 / (time.perf_counter() - before))
    return best
