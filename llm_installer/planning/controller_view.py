"""What mode adaptive's rules look at: the evaluations of a run, and the changes made in it so far."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from llm_installer.core.state import Adjustment, Evaluation, RunState
from llm_installer.planning.plan import Plan

HIGHEST, LOWEST = 32.0, 0.001
"""Bounds of the learning rate, as multiples of the planned one."""
TRIES = 2
"""Raises that did not pay, after which no other is tried."""


@dataclass(frozen=True)
class View:
    """What the rules look at."""

    state: RunState
    plan: Plan

    @property
    def last(self) -> Evaluation:
        """The newest evaluation."""
        return self.state.history[-1]

    @property
    def progress(self) -> float:
        """Share of the run that is done."""
        return self.state.done / total if (total := self.plan.course.total_steps) else 0.0

    @property
    def change(self) -> Adjustment | None:
        """The newest change."""
        return self.state.adjustments[-1] if self.state.adjustments else None

    @property
    def before(self) -> tuple[float, int]:
        """Scales of learning rate and batch before the newest change."""
        past = self.state.adjustments[:-1]
        return (past[-1].rate_scale, past[-1].batch_scale) if past else (1.0, 1)

    @property
    def best(self) -> Evaluation:
        """The evaluation that restoring goes back to."""
        step = self.state.best_step if self.state.improved else 0
        return next(e for e in self.state.history if e.step == step)

    @property
    def trial(self) -> list[Evaluation]:
        """The evaluations since the newest change, beginning with the one that led to it."""
        change = self.change
        return [e for e in self.state.history if change is None or e.step >= change.step]

    @property
    def falls(self) -> list[float]:
        """How fast the monitored loss fell in each of the last two intervals, per epoch."""
        pairs = pairwise(self.state.history[-3:])
        return [(monitored(a) - monitored(b)) / max(b.epoch - a.epoch, 1e-9) for a, b in pairs]

    def set(self, why: str, rate: float | None = None, batch: int | None = None, restore: bool = False) -> Adjustment:
        """The change to these scales of learning rate and batch; what is not given stays."""
        state = self.state
        rate = max(LOWEST, min(HIGHEST, state.rate_scale if rate is None else rate))
        return Adjustment(state.step, rate, state.batch_scale if batch is None else batch, restore, why)


def monitored(evaluation: Evaluation) -> float:
    """The loss that decides what is best."""
    return evaluation.validation_loss if evaluation.validation_loss is not None else evaluation.train_loss


def raised(v: View) -> bool:
    """Whether the newest change was a higher learning rate."""
    return v.change is not None and v.change.rate_scale > v.before[0]


def joined(v: View) -> bool:
    """Whether the newest change was a larger batch."""
    return v.change is not None and v.change.batch_scale > v.before[1]


def lowered(state: RunState) -> bool:
    """Whether a learning rate was too high, or raises did not pay: then it is not raised again, or the two would chase
    each other."""
    scales = [1.0] + [a.rate_scale for a in state.adjustments]
    falls = sum(b < a for a, b in pairwise(scales))
    return falls >= TRIES or any(a.restore_best for a in state.adjustments)


def zigzag(state: RunState) -> bool:
    """Whether the loss on training rows changed direction at each of the last three evaluations."""
    losses = [e.train_loss for e in state.history][-4:]
    changes = [b - a for a, b in pairwise(losses)]
    return len(changes) == 3 and all(a * b < 0 for a, b in pairwise(changes))
