"""How long a training would take on GPUs that are not here: its arithmetic, and the share of their peak. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from llm_installer.core.model_info import ModelInfo
from llm_installer.planning.duration import FORWARD
from llm_installer.planning.flops import PEAK_FLOPS, flops_per_token
from llm_installer.planning.plan import Plan

SHARES = (0.05, 0.4)
"""Least and most of a GPU's peak that a training reaches; small models are held up by what is no arithmetic."""
LAUNCHES = 2e-3
"""Seconds that a layer of a step takes at most where it has next to nothing to compute: a GPU is told of each product
one by one. Recorded as graphs it is a quarter of that."""


@dataclass(frozen=True)
class Elsewhere:
    """What a training would take on a GPU."""

    gpu: str
    """A name of planning.flops.PEAK_FLOPS."""
    least_seconds: float
    most_seconds: float


def elsewhere(info: ModelInfo, plan: Plan, length: float, rows: int) -> Iterator[Elsewhere]:
    """A plan on every known GPU; `length` is the mean one of the `rows`. Of a run without an end: one epoch."""
    work, steps = work_of(info, plan, length, rows)
    for gpu, peak in PEAK_FLOPS:
        yield Elsewhere(gpu, *seconds_on(peak, work, steps * info.layers * LAUNCHES))


def seconds_on(peak: float, work: float, launching: float) -> tuple[float, float]:
    """(least, most) seconds on a GPU with this peak."""
    low, high = SHARES
    return max(work / (high * peak), launching / 4), max(work / (low * peak), launching)


def work_of(info: ModelInfo, plan: Plan, length: float, rows: int) -> tuple[float, int]:
    """(FLOPs of all steps and evaluations, steps)."""
    course = plan.course
    batch = course.effective_batch_size
    steps = course.total_steps or math.ceil(rows / batch)
    a_token = flops_per_token(info, rank=plan.lora_r, length=length, targets=plan.target_modules)
    evaluated = FORWARD * course.evaluation_rows / max(1, course.evaluation_every * batch)
    return a_token * length * batch * steps * (1 + evaluated), steps
