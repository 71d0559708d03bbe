"""Model FLOPs utilisation (MFU) of a run, and what its machine could do: by the GPU's name, or briefly measured."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cache

import numpy as np
import torch

from llm_installer.core.model_info import ModelInfo
from llm_installer.core.speed import Speed
from llm_installer.core.state import RunState
from llm_installer.data.encoding.row import Row
from llm_installer.distributed import processes
from llm_installer.models.base import DTYPES
from llm_installer.planning.flops import flops_per_token, known_peak_flops, mfu
from llm_installer.planning.plan import Plan
from llm_installer.training.device_memory import peak_bytes
from llm_installer.training.trainer import row_lengths

SIDE, LONGEST = 1024, 0.2
"""Rows and columns of the measured product, and the seconds it may be repeated for."""
LOOKED_AT = 1000
"""Rows from which the share of supervised tokens is estimated."""


def machine_limit(name: str, device: str, precision: str) -> float:
    """Operations per second that this machine could reach: a known GPU in bfloat16, anything else in `precision`."""
    return known_peak_flops(name) or measured_limit(device, precision)


def speed_of(info: ModelInfo, plan: Plan, name: str, rows: Sequence[Row], state: RunState) -> Speed:
    """How fast a run was, from its counters; `name` is the GPU's, where there is one.

    Its MFU is real tokens per second times the arithmetic of one (planning/flops.py has the formula), as a share of
    the limit. The arithmetic is that of the rows themselves: the mean length of a token's document, and the share of
    supervised ones; what gradient checkpointing computes again does not count.
    """
    seconds, lengths = state.phases.get("train", 0.0), row_lengths(rows).astype(np.float64)
    looked_at = [rows[i] for i in range(0, len(rows), max(1, len(rows) // LOOKED_AT))]
    supervised = sum(int(row.supervised[1:].sum()) for row in looked_at) / sum(len(row.ids) for row in looked_at)
    need = flops_per_token(
        info,
        rank=plan.lora_r,
        length=float((lengths**2).sum() / lengths.sum()),
        scored=supervised,
        targets=plan.target_modules,
    )
    limit = machine_limit(name, plan.device, plan.precision)
    known = known_peak_flops(name)
    rate = state.tokens / seconds if seconds else 0.0
    kind = "bfloat16" if plan.device == "cuda" else plan.precision
    return Speed(
        tokens_per_second=rate,
        mfu=mfu(rate, need, limit * processes.count()),
        mfu_of=f"this {'CPU' if plan.device == 'cpu' else 'GPU'}'s {'' if known else 'measured '}{kind} peak",
        peak_bytes=peak_bytes(plan.device),
        predicted_bytes=plan.predicted_peak_bytes,
        phases=dict(state.phases),
    )


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
