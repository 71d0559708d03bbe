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

    def ended(self) -> str:
        """Why a run that met no other end is over."""
        return f"all {'cycles' if self.cycles else 'epochs'} are done"


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


def modes_table() -> str:
    """The modes as a Markdown table, for docs/modes.md."""
    lines = [
        "| mode | rate | passes | rows per step | rate's course | measured every | ends by itself on |",
        "|---|---|---|---|---|---|---|",
    ]
    for m in MODES.values():
        passes = "no end" if math.isinf(m.epochs) else f"{m.epochs:g} cycles" if m.cycles else f"{m.epochs:g}"
        rows = f"{m.effective_batch_size}, growing" if m.cycles else str(m.effective_batch_size)
        course = m.schedule + (", times the controller's scale" if m.controller != "none" else "")
        every = f"{m.evaluation_share:.0%} of a pass"
        every += f", at first {m.early_evaluations} times as often" if m.early_evaluations > 1 else ""
        rules = "all five" if m.stop_rules == WATCHFUL else ", ".join(m.stop_rules)
        lines.append(f"| {m.name} | x {m.learning_rate_scale:g} | {passes} | {rows} | {course} | {every} | {rules} |")
    return "\n".join(lines)
