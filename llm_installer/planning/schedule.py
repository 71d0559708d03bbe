"""The learning rate at each step, as pure arithmetic."""

from __future__ import annotations

import math
from collections.abc import Callable

RESTARTS = 4
"""Times that cosine_with_restarts falls in a run."""

SCHEDULES: dict[str, Callable[[float, int], float]] = {
    "cosine": lambda done, after: 0.5 * (1 + math.cos(math.pi * done)),
    "linear": lambda done, after: 1 - done,
    "constant": lambda done, after: 1.0,
    "cosine_with_restarts": lambda done, after: 0.5 * (1 + math.cos(math.pi * ((done * RESTARTS) % 1.0))),
    "inverse_sqrt": lambda done, after: 1 / math.sqrt(1 + after / 100),
}
"""Name -> share of the peak learning rate, from the share of the run that is done after the warm-up, and from the steps
since it. The names are those of transformers' schedulers."""
ENDLESS_SCHEDULES = ("constant", "inverse_sqrt")
"""Those that need no end and never reach zero."""


def rate_scale(step: int, warmup_steps: int, total_steps: int, schedule: str = "cosine") -> float:
    """Share of the peak learning rate for the 1-based `step`: a linear rise, then what `schedule` says.

    Neither the first nor the last step has a learning rate of zero. `total_steps` 0 means that the run has no end.
    """
    if step <= warmup_steps:
        return step / (warmup_steps + 1)
    after = step - 1 - warmup_steps
    done = min(1.0, after / max(1, total_steps - warmup_steps)) if total_steps else 0.0
    return SCHEDULES[schedule](done, after)
