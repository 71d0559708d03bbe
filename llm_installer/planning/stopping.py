"""When a run should end by itself: pure rules over its evaluations."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from llm_installer.core.examples import Task
from llm_installer.core.state import RunState
from llm_installer.core.text import counted


@dataclass(frozen=True)
class Limits:
    """The thresholds that stop rules compare with."""

    patience: int
    """Evaluations in a row without a better monitored loss; those within the noise count half."""
    overfitting_threshold: float
    """Relative gap (validation - train) / train."""
    min_evaluations: int
    """Evaluations after the first step before overfitting is judged."""
    confirmations: int = 2
    """Evaluations in a row that must be worse than the best; within the noise, twice as many."""
    window: int = 5
    """Evaluations over which trend and gap are averaged."""
    slope: float = 0.001
    """Rise of the validation loss per evaluation that counts as rising."""
    perfect_loss: float = 0.01
    """Loss on the training slice at which there is nothing left to learn from it."""
    perplexity: float = math.inf
    """Perplexity on validation rows that no run should rise above."""
    perplexity_slope: float = 0.01


TASKS: dict[Task, Limits] = {
    "instruct": Limits(patience=3, overfitting_threshold=0.1, min_evaluations=5),
    "text": Limits(patience=5, overfitting_threshold=0.2, min_evaluations=5, perfect_loss=0.5, perplexity=100),
    "vision": Limits(patience=3, overfitting_threshold=0.1, min_evaluations=5),
}
"""The guide's thresholds by task."""

Rule = Callable[[RunState, Limits], str | None]


def out_of_patience(state: RunState, limits: Limits) -> str | None:
    """No better loss for `patience` evaluations in a row, of which those within the noise count half."""
    if state.evaluations_without_improvement < limits.patience:
        return None
    since = counted(sum(evaluation.step > state.best_step for evaluation in state.history), "evaluation")
    return f"the loss on {_monitored(state)} has not improved for {since}{_restored(state)}"


def overfitting(state: RunState, limits: Limits) -> str | None:
    """Validation loss rises while the gap to the training loss is above the threshold."""
    evaluated = [e for e in state.history if e.step > 0 and e.validation_loss is not None]
    if len(evaluated) < limits.min_evaluations or state.evaluations_without_improvement < limits.confirmations:
        return None
    recent = evaluated[-limits.window :]
    validation = [e.validation_loss for e in recent if e.validation_loss is not None]
    train_mean = sum(e.train_loss for e in recent) / len(recent)
    validation_mean = sum(validation) / len(validation)
    gap = (validation_mean - train_mean) / max(train_mean, 1e-6)
    if least_squares_slope(validation) > limits.slope and gap > limits.overfitting_threshold:
        return (
            f"the model began to memorise: its loss on validation rows rises and is {gap:.0%} above that on "
            f"training rows{_restored(state)}"
        )
    return None


def perfect(state: RunState, limits: Limits) -> str | None:
    """The training slice is memorised, and validation rows would gain nothing from more steps."""
    last = state.history[-1]
    if last.step == 0 or last.train_loss > limits.perfect_loss:
        return None
    if last.validation_loss is not None and not state.evaluations_without_improvement:
        return None
    return (
        f"the training rows are memorised: their loss is {last.train_loss:.4f}, "
        f"at most {limits.perfect_loss:g}{_restored(state)}"
    )


def perplexity_explosion(state: RunState, limits: Limits) -> str | None:
    """The perplexity on validation rows is far too high and rises, while it was better before."""
    evaluated = [e for e in state.history if e.step > 0 and e.validation_loss is not None][-limits.window :]
    losses = [e.validation_loss for e in evaluated if e.validation_loss is not None]
    if not losses or state.evaluations_without_improvement < limits.confirmations:
        return None
    if losses[-1] <= math.log(limits.perplexity) or least_squares_slope(losses) <= limits.perplexity_slope:
        return None
    return (
        f"the perplexity on validation rows rose to {math.exp(min(losses[-1], 50)):.0f}, above {limits.perplexity:g}: "
        f"the model is losing its language{_restored(state)}"
    )


def diverged(state: RunState, limits: Limits) -> str | None:
    """The loss is no longer a finite number."""
    last = state.history[-1]
    losses = [last.train_loss] + ([last.validation_loss] if last.validation_loss is not None else [])
    if all(math.isfinite(loss) for loss in losses):
        return None
    return (
        f"training diverged: the loss is no longer a finite number, most often because the learning rate is too high"
        f"{_restored(state)}"
    )


def _monitored(state: RunState) -> str:
    return "training rows" if state.memorising or state.history[-1].validation_loss is None else "validation rows"


def _restored(state: RunState) -> str:
    """Which weights are kept, for the end of a sentence."""
    if not state.improved:
        return "; no step was better than the untrained model, which stays as it is"
    return f"; the weights of step {state.best_step}, the best, are kept"


STOP_RULES: dict[str, Rule] = {
    "non-finite loss": diverged,
    "perfect loss": perfect,
    "perplexity explosion": perplexity_explosion,
    "overfitting": overfitting,
    "patience": out_of_patience,
}
"""Checked in this order after each evaluation."""

EXPLAINED: dict[str, tuple[str, Callable[[Limits], str]]] = {
    "non-finite loss": ("a loss is no longer a finite number", lambda b: "at once"),
    "perfect loss": (
        "the training slice is memorised, and the validation loss (where there is one) no longer falls",
        lambda b: f"loss {b.perfect_loss:g}",
    ),
    "perplexity explosion": (
        "the perplexity on validation rows is high and rises",
        lambda b: f"{b.perplexity:g}" if math.isfinite(b.perplexity) else "-",
    ),
    "overfitting": (
        "the validation loss rises while it is far above the training loss",
        lambda b: f"gap {b.overfitting_threshold:.0%}, judged from evaluation {b.min_evaluations} on",
    ),
    "patience": (
        "the monitored loss no longer improves; a measurement within the noise counts half",
        lambda b: f"{b.patience} evaluations in a row",
    ),
}
"""Rule -> when it ends a run, and its threshold in words."""


def stop_table() -> str:
    """The rules and their thresholds by task as a Markdown table, for docs/reference/modes.md."""
    lines = ["| rule | ends the run when | " + " | ".join(TASKS) + " |", "|---|---|" + "---|" * len(TASKS)]
    lines += [
        f"| {name} | {EXPLAINED[name][0]} | " + " | ".join(EXPLAINED[name][1](b) for b in TASKS.values()) + " |"
        for name in STOP_RULES
    ]
    return "\n".join(lines)


def stop_reason(state: RunState, limits: Limits, rules: Sequence[str]) -> str | None:
    """The sentence of the first rule that fires, or None."""
    return next((reason for name in rules if (reason := STOP_RULES[name](state, limits))), None)


def least_squares_slope(values: Sequence[float]) -> float:
    """Slope of the least-squares line through equally spaced values, per value."""
    n = len(values)
    if n < 2:
        return 0.0
    mean_x, mean_y = (n - 1) / 2, sum(values) / n
    spread = sum((x - mean_x) ** 2 for x in range(n))
    return sum((x - mean_x) * (y - mean_y) for x, y in enumerate(values)) / spread
