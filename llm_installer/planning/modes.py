"""What each mode means: one row of numbers. No other file knows a mode by name."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mode:
    """A way to train, relative to what the size of the model suggests."""

    name: str
    learning_rate_scale: float
    epochs: float
    effective_batch_size: int
    evaluation_share: float
    """Steps between evaluations, as a share of an epoch."""
    why: str


_ROWS = (
    Mode("slow", 0.5, 5, 32, 0.10, "half the rate, more passes, calm steps"),
    Mode("medium", 1.0, 3, 16, 0.05, "the usual balance"),
    Mode("fast", 2.0, 1, 8, 0.02, "double the rate, one pass"),
)
MODES: dict[str, Mode] = {row.name: row for row in _ROWS}

ORDERS = {
    "random": "a new order each epoch",
    "short-first": "the first epoch from short rows to long ones, then a new order each",
}
"""In which order rows are met, and why. How each is made is in data/batches.py."""

SYNONYMS = {"quality": "slow", "balanced": "medium", "quick": "fast"}
"""Names that older documents use."""
