"""What each mode means: one row of numbers. A new mode is one more row."""

from __future__ import annotations

import math
from dataclasses import dataclass

from llm_installer.core.examples import Task

WATCHFUL = ("non-finite loss", "perfect loss", "perplexity explosion", "overfitting", "patience")
"""Stop rules, names of planning.stopping.STOP_RULES: everything that says a run is over."""
MEMORISING = ("non-finite loss", "perfect loss")
"""For a mode that is meant to repeat the data until it has memorised them."""
ENDLESS = ("non-finite loss",)


@dataclass(frozen=True)
class Mode:
    """A way to train, relative to what the size of the model suggests."""

    name: str
    learning_rate_scale: float
    epochs: float
    """Infinite where only the user ends the run."""
    effective_batch_size: int
    evaluation_share: float
    """Steps between evaluations, as a share of an epoch."""
    schedule: str
    """A name of planning.schedule.SCHEDULES."""
    stop_rules: tuple[str, ...]
    why: str
    cycles: bool = False
    """Epochs are called cycles, and the batch grows from one to the next."""
    controller: str = "patient"
    """A name of planning.controller.CONTROLLERS."""
    memorises: bool = False
    """Every row is trained on unless validation is asked for, and the best weights are those that know them best."""
    early_evaluations: int = 1
    """How many times as often it evaluates at the beginning."""

    def ended(self) -> str:
        """Why a run that met no other end is over."""
        return f"all {'cycles' if self.cycles else 'epochs'} are done"


_ROWS = (
    Mode("slow", 0.7, 6, 16, 0.10, "cosine", WATCHFUL, "a lower learning rate and twice the epochs"),
    Mode("medium", 1.0, 3, 16, 0.05, "cosine", WATCHFUL, "the usual balance"),
    Mode("fast", 2.0, 1, 8, 0.02, "cosine", WATCHFUL, "twice the learning rate, one epoch"),
    Mode(
        "circular", 0.5, 100, 4, 0.01, "constant", MEMORISING, "the same rows in cycles, with growing batches",
        cycles=True, memorises=True, controller="none",
    ),
    Mode(
        "non-stop", 0.3, math.inf, 16, 0.20, "constant", ENDLESS, "a low, constant learning rate until you stop it",
        controller="none",
    ),
    Mode(
        "adaptive", 1.0, 3, 16, 0.05, "cosine", WATCHFUL, "learning rate and batch size follow the loss curve",
        controller="adaptive", early_evaluations=3,
    ),
)  # fmt: skip
MODES: dict[str, Mode] = {row.name: row for row in _ROWS}
USUAL = "medium"


ROWS_SEEN = 1100
"""Rows that mode medium goes through, about, where that takes more than its epochs and at most TIMES as many: on small
sets more epochs were better each time they were tried (docs/choices.md). A run that begins to memorise ends by
itself."""
TIMES = 2.0


def epochs_of(mode: Mode, rows: int, task: Task) -> float:
    """Passes over so many rows in a mode, before the user says otherwise. A row of running text may be a chapter."""
    if mode.cycles or math.isinf(mode.epochs) or task == "text":
        return mode.epochs
    usual = MODES[USUAL].epochs
    wanted = round(min(TIMES * usual, max(usual, ROWS_SEEN / max(1, rows))))
    return float(round(mode.epochs * wanted / usual))


def time_of(mode: Mode, rows: int, task: Task) -> str:
    """How long it takes beside mode medium, in words; empty where it has no end. Time goes by epochs."""
    times = {
        name: _as_long(epochs_of(m, rows, task) / epochs_of(MODES[USUAL], rows, task)) for name, m in MODES.items()
    }
    if mode.name == USUAL:
        return f"slow takes {times['slow']}, fast {times['fast']}"
    return f"takes {times[mode.name]} as {USUAL}" if times[mode.name] else ""


def _as_long(share: float) -> str:
    if math.isinf(share):
        return ""
    return f"{share:.2g} times as long" if share > 1 else "as long" if share == 1 else f"1/{1 / share:.2g} as long"


ORDERS = {
    "random": "a new order each epoch",
    "shuffled": "a new order each epoch, in which rows of similar length do not share a step",
    "short-first": "the first epoch from short rows to long ones, then a new order each epoch",
    "given": "the first epoch as the rows stand in the data, then a new order each epoch",
}
"""In which order rows are trained on, in words. How each is made is in data/batches.py."""

SYNONYMS = {
    "quality": "slow", "balanced": "medium", "quick": "fast", "circle": "circular", "nonstop": "non-stop",
}  # fmt: skip
"""Names that older documents use."""


def modes_table() -> str:
    """The modes as a Markdown table, for docs/reference/modes.md."""
    lines = [
        "| mode | learning rate | epochs | time | batch size, at most | schedule | evaluation every | stop rules |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for m in MODES.values():
        few = epochs_of(m, 1, "instruct")
        epochs = "no end" if math.isinf(few) else f"{few:g} cycles" if m.cycles else f"{m.epochs:g} to {few:g}"
        rows = f"{m.effective_batch_size}, growing" if m.cycles else str(m.effective_batch_size)
        course = m.schedule + (", times the controller's scale" if m.controller == "adaptive" else "")
        every = f"{m.evaluation_share:.0%} of an epoch"
        every += f", at first {m.early_evaluations} times as often" if m.early_evaluations > 1 else ""
        time = "no end" if math.isinf(m.epochs) else f"x {m.epochs / MODES[USUAL].epochs:.2g}"
        rules = "all five" if m.stop_rules == WATCHFUL else ", ".join(m.stop_rules)
        cells = (m.name, f"x {m.learning_rate_scale:g}", epochs, time, rows, course, every, rules)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
