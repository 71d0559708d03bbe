"""What each mode means: one row of numbers. No other file knows a mode by name."""

from __future__ import annotations

import math
from dataclasses import dataclass

WATCHFUL = ("non-finite loss", "perfect loss", "perplexity explosion", "overfitting", "patience")
"""Stop rules, names of planning.stopping.STOP_RULES: everything that says a run is over."""
MEMORISING = ("non-finite loss", "perfect loss")
"""For a mode that is meant to go over the data until it knows them."""
ENDLESS = ("non-finite loss",)


@dataclass(frozen=True)
class Mode:
    """A way to train, relative to what the size of the model suggests."""

    name: str
    learning_rate_scale: float
    epochs: float
    """Passes over the data; infinite where only the user ends the run."""
    effective_batch_size: int
    evaluation_share: float
    """Steps between evaluations, as a share of an epoch."""
    schedule: str
    """A name of planning.schedule.SCHEDULES."""
    stop_rules: tuple[str, ...]
    why: str
    cycles: bool = False
    """Passes are called cycles, and the batch grows from one to the next."""
    controller: str = "none"
    """A name of planning.adapting.CONTROLLERS."""
    early_evaluations: int = 1
    """How much more often is measured at the beginning."""


_ROWS = (
    Mode("slow", 0.5, 5, 32, 0.10, "cosine", WATCHFUL, "half the rate, more passes, calm steps"),
    Mode("medium", 1.0, 3, 16, 0.05, "cosine", WATCHFUL, "the usual balance"),
    Mode("fast", 2.0, 1, 8, 0.02, "cosine", WATCHFUL, "double the rate, one pass"),
    Mode("circular", 0.8, 100, 4, 0.01, "constant", MEMORISING, "over and over, with growing batches", cycles=True),
    Mode("non-stop", 0.3, math.inf, 32, 0.20, "constant", ENDLESS, "a low, steady rate until you stop it"),
    Mode(
        "adaptive", 1.0, 3, 16, 0.05, "cosine", WATCHFUL, "rate and batch follow the curve", controller="adaptive",
        early_evaluations=3,
    ),
)  # fmt: skip
MODES: dict[str, Mode] = {row.name: row for row in _ROWS}

ORDERS = {
    "random": "a new order each epoch",
    "short-first": "the first epoch from short rows to long ones, then a new order each",
}
"""In which order rows are met, and why. How each is made is in data/batches.py."""

SYNONYMS = {
    "quality": "slow", "balanced": "medium", "quick": "fast", "circle": "circular", "nonstop": "non-stop",
}  # fmt: skip
"""Names that older documents use."""
