"""The learning rate at each step, as pure arithmetic."""

from __future__ import annotations

import math


def rate_scale(step: int, warmup_steps: int, total_steps: int) -> float:
    """Share of the peak rate for the 1-based `step`: a linear rise, then half a cosine down to zero.

    The last step has a rate just above zero, the first one is never zero.
    """
    if step <= warmup_steps:
        return step / (warmup_steps + 1)
    progress = (step - 1 - warmup_steps) / max(1, total_steps - warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
