"""Whether a run ended before it had learned what it could, as pure arithmetic over its evaluations."""

from __future__ import annotations

from llm_installer.core.state import RunState
from llm_installer.planning.modes import MODES
from llm_installer.planning.plan import Plan

CLOSE = 0.1
"""Largest gap (validation - train) / train at which rows are not being memorised yet."""
FALL = 0.01
"""Share by which the validation loss fell over the last third of a run that was too short: the learning rate falls to
nothing there, and the loss falls no faster than that lets it."""


def longer(state: RunState, plan: Plan) -> str:
    """A sentence that names the option for a longer run where one would likely learn more; else empty."""
    evaluated = [(e.step, e.validation_loss, e.train_loss) for e in state.history if e.validation_loss is not None]
    if not plan.course.total_steps or plan.cycles or len(evaluated) < 3:
        return ""
    if state.stop_reason != MODES[plan.mode].ended() or state.best_step != evaluated[-1][0]:
        return ""
    last, train = evaluated[-1][1:]
    then = next(loss for step, loss, _ in evaluated if step >= state.step * 2 / 3)
    if last - train > CLOSE * train or then - last < FALL * last:
        return ""
    return (
        "The loss was lowest at the end, and close to that on training rows: a longer run would likely learn more "
        f"(--epochs {2 * plan.course.epochs:g})."
    )
