"""Whether ./lora becomes the adapter of a run that ended well: pure rules over what is known of it then."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from llm_installer.core.changes import FORGOTTEN, Pair
from llm_installer.core.text import counted

FEW_ROWS, FEW_STEPS = 8, 3
"""Below both, a run is a trial: no time to learn even a single row, and next to nothing to evaluate that on."""
LANGUAGE_LOST = 2.0
"""Rise of the loss on general sentences, in nats per token: each is then 7 times less likely than before. Runs that
learn a small set by heart stay below 1."""


@dataclass(frozen=True)
class Ended:
    """What is known of a run that has ended."""

    improved: bool
    """Whether an evaluation beat the base."""
    rows: int
    """It was trained on so many,"""
    steps: int
    """and took so many steps to its best evaluation."""
    general: float | None
    """By how much the loss on general text rose; None where that was not evaluated."""
    own: Pair | None = None
    """On text that the base wrote; None where there is none."""
    learned: Pair | None = None
    """On what was to be learned; None where that was to be memorised, whatever is forgotten over it."""


def why_not(run: Ended) -> str:
    """The end of the sentence `./lora is as it was, for ...`; empty where it becomes the adapter of this run."""
    return next((reason for rule in _RULES if (reason := rule(run))), "")


def _not_better(run: Ended) -> str:
    return "" if run.improved else "no evaluation beat the base model"


def _trial(run: Ended) -> str:
    if run.rows >= FEW_ROWS or run.steps >= FEW_STEPS:
        return ""
    return f"{counted(run.steps, 'step')} on {counted(run.rows, 'row')} can hardly have taught the model anything"


def _lost(run: Ended) -> str:
    if run.general is None or run.general < LANGUAGE_LOST:  # NaN is not
        return ""
    rose = f"rose by {run.general:.1f}" if math.isfinite(run.general) else "is not a finite number"
    return f"the model forgot its language in this run: the loss on general text {rose}"


def _forgot_more(run: Ended) -> str:
    own, learned = run.own, run.learned
    if own is None or learned is None or own.change <= FORGOTTEN or not own.rises_more(learned):
        return ""
    return (
        f"this run forgot more than it learned: the loss on text that the base wrote rose by {own.change:.2f}, "
        f"and that on the data fell by {max(0.0, -learned.change):.2f}"
    )


_RULES: tuple[Callable[[Ended], str], ...] = (_not_better, _trial, _lost, _forgot_more)
