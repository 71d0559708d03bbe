"""Mode adaptive: after each evaluation, find trouble in what was measured, and change rate, batch or weights.

Pure: the same history gives the same changes, so a run that is gone on with goes the way it would have gone.

Sources. Raise while the loss falls, and take back what made it worse: the bold driver (Vogl et al., 1988, Biological
Cybernetics 59), on a run's own steps what a learning rate range test does before it (Smith, 2017, arXiv 1506.01186).
Lower the rate where the loss no longer falls: ReduceLROnPlateau of PyTorch. Join steps where it swings: Smith et al.,
2018, arXiv 1711.00489. Go back to the best weights before going on with a lower rate: early stopping with a second try.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from llm_installer.core.state import Adjustment, Evaluation, RunState

if TYPE_CHECKING:
    from llm_installer.planning.plan import Plan

RAISE, LOWER, RESCUE = 2.0, 0.5, 0.25
"""What the rate is multiplied by: where it is too low, where nothing gets better, where training breaks."""
HIGHEST, LOWEST = 32.0, 0.001
LARGEST_BATCH = 4
"""Planned steps joined at most."""
CLEAR = 0.001
"""Share of the loss by which it must change to count as falling or rising."""
STEADY = 0.6
"""A fall is steady where it is at least this share of the fall before, per epoch; also where a raise pays."""
TRIES = 2
"""Raises that did not pay, after which no other is tried."""
BROKEN = 0.05
"""Share of the best loss by which both losses must be above it to count as broken."""
GAP = 0.03
"""Growth of the gap between both losses, as a share, that counts as memorising."""
STUCK = 2
"""Evaluations without improvement that count as no progress."""
ENOUGH = 3
"""Changes in a row that brought nothing better, after which the stop rules may end the run."""
EARLY = 0.25
"""Share of the run in which getting stuck means that the rate was far too high from the start."""
RAISES_UNTIL, CHANGES_UNTIL = 0.5, 0.95
"""Shares of the run after which the rate is no longer raised, or nothing is changed."""


@dataclass(frozen=True)
class View:
    """What the rules look at."""

    state: RunState
    plan: Plan

    @property
    def last(self) -> Evaluation:
        """The newest measurement."""
        return self.state.history[-1]

    @property
    def progress(self) -> float:
        """Share of the run that is done."""
        return self.state.done / self.plan.total_steps if self.plan.total_steps else 0.0

    @property
    def change(self) -> Adjustment | None:
        """The newest change."""
        return self.state.adjustments[-1] if self.state.adjustments else None

    @property
    def before(self) -> tuple[float, int]:
        """Rate and batch scale before the newest change."""
        past = self.state.adjustments[:-1]
        return (past[-1].rate_scale, past[-1].batch_scale) if past else (1.0, 1)

    @property
    def best(self) -> Evaluation:
        """The measurement that restoring goes back to."""
        step = self.state.best_step if self.state.improved else 0
        return next(e for e in self.state.history if e.step == step)

    @property
    def trial(self) -> list[Evaluation]:
        """The measurements since the newest change, beginning with the one that led to it."""
        change = self.change
        return [e for e in self.state.history if change is None or e.step >= change.step]

    @property
    def falls(self) -> list[float]:
        """How fast the watched loss fell in each of the last two intervals, per epoch."""
        pairs = pairwise(self.state.history[-3:])
        return [(watched(a) - watched(b)) / max(b.epoch - a.epoch, 1e-9) for a, b in pairs]

    def set(self, why: str, rate: float | None = None, batch: int | None = None, restore: bool = False) -> Adjustment:
        """The change to this rate and batch scale; what is not given stays."""
        state = self.state
        rate = max(LOWEST, min(HIGHEST, state.rate_scale if rate is None else rate))
        return Adjustment(state.step, rate, state.batch_scale if batch is None else batch, restore, why)


Rule = Callable[[View], "Adjustment | None"]


def broken(v: View) -> Adjustment | None:
    """The loss is no number, or both losses are far above the best: the rate is too high."""
    best, last = v.best, v.last
    far = watched(last) > watched(best) * (1 + BROKEN) and last.train_loss > best.train_loss * (1 + BROKEN)
    if math.isfinite(watched(last)) and math.isfinite(last.train_loss) and not far:
        return None
    how = f"rose from {watched(best):.4g} to {watched(last):.4g}" if far else "was no finite number any more"
    rate = min(v.before[0], v.state.rate_scale * LOWER) if raised(v) else v.state.rate_scale * RESCUE
    return v.set(f"the loss {how}, so the rate is too high{back(v, rate)}", rate, restore=True)


def raised_too_far(v: View) -> Adjustment | None:
    """The newest raise made it worse, or no faster: take it back."""
    if not raised(v) or len(v.trial) != 2:
        return None
    start, last = v.trial
    rate, falls = v.before[0], v.falls
    if watched(last) > watched(start) * (1 + CLEAR):
        return v.set(f"the higher rate made the loss rise to {watched(last):.4g}{back(v, rate)}", rate, restore=True)
    if falls[-1] >= falls[0] * STEADY:
        return None
    return v.set(f"the higher rate made the loss fall no faster, so it is {rate:g} times the planned rate again", rate)


def no_progress(v: View) -> bool:
    """Whether it is time to try something else, and something is left to try."""
    past = v.state.adjustments
    tried = len(past) >= ENOUGH and v.state.best_step <= past[-ENOUGH].step
    return v.state.evaluations_without_improvement >= STUCK and not tried


def memorising(v: View) -> Adjustment | None:
    """No better for a while, and the gap between both losses grew."""
    last, best = v.last, v.best
    if not no_progress(v) or last.validation_loss is None:
        return None
    grown = last.validation_loss / max(last.train_loss, 1e-9) / (watched(best) / max(best.train_loss, 1e-9)) - 1
    if grown < GAP or last.train_loss >= best.train_loss:
        return None
    rate = v.state.rate_scale * lowering(v)
    return v.set(f"only the loss on training rows still falls, so it memorises{back(v, rate)}", rate, restore=True)


def swinging(v: View) -> Adjustment | None:
    """The loss goes up and down, also at a lower rate: fewer steps of more rows."""
    batch = v.state.batch_scale * 2
    joined_before = any(a.batch_scale > v.state.batch_scale for a in v.state.adjustments)
    if not no_progress(v) or batch > LARGEST_BATCH or joined_before or joined(v):
        return None
    if not (zigzag(v.state) and any(a.rate_scale < 1 for a in v.state.adjustments)):
        return None
    return v.set(
        f"the loss goes up and down and gets nowhere, so each step now takes {batch} times the planned rows{kept(v)}",
        batch=batch, restore=True,
    )  # fmt: skip


def stuck(v: View) -> Adjustment | None:
    """No better for a while: a lower rate from the best weights."""
    if not no_progress(v):
        return None
    rate, batch = v.state.rate_scale * lowering(v), v.before[1] if joined(v) else v.state.batch_scale
    undone = ", and larger steps did not help" if joined(v) else ""
    return v.set(f"the loss no longer falls{undone}{back(v, rate)}", rate, batch, restore=True)


def too_slow(v: View) -> Adjustment | None:
    """The loss falls as fast as before, or a raise paid: the rate bears more."""
    falls, rate = v.falls, v.state.rate_scale * RAISE
    if v.progress > RAISES_UNTIL or v.state.done <= v.plan.warmup_steps or lowered(v.state) or rate > HIGHEST:
        return None
    if len(falls) < 2 or falls[-1] < falls[0] * STEADY or falls[0] <= 0:
        return None
    if watched(v.last) > watched(v.state.history[-2]) * (1 - CLEAR):
        return None
    return v.set(f"the loss falls steadily, so {rate:g} times the planned rate is tried", rate)


RULES: dict[str, Rule] = {
    "broken": broken,
    "raised too far": raised_too_far,
    "memorising": memorising,
    "swinging": swinging,
    "stuck": stuck,
    "too slow": too_slow,
}
"""Asked in this order after each evaluation; the first that wants a change has it."""


def adaptive(state: RunState, plan: Plan) -> Adjustment | None:
    """The change that the first rule wants, or None. Nothing where the rows are known by heart or the end is near."""
    view = View(state, plan)
    if state.step == 0 or view.last.train_loss <= plan.limits.perfect_loss or view.progress > CHANGES_UNTIL:
        return None
    if state.rate_scale <= LOWEST:
        return None
    return next((change for rule in RULES.values() if (change := rule(view))), None)


def watched(evaluation: Evaluation) -> float:
    """The loss that decides what is best."""
    return evaluation.validation_loss if evaluation.validation_loss is not None else evaluation.train_loss


def raised(v: View) -> bool:
    """Whether the newest change was a higher rate."""
    return v.change is not None and v.change.rate_scale > v.before[0]


def joined(v: View) -> bool:
    """Whether the newest change was a larger batch."""
    return v.change is not None and v.change.batch_scale > v.before[1]


def lowered(state: RunState) -> bool:
    """Whether a rate was too high, or raises did not pay: then it is not raised again, or the two would chase each
    other."""
    scales = [1.0] + [a.rate_scale for a in state.adjustments]
    falls = sum(b < a for a, b in pairwise(scales))
    return falls >= TRIES or any(a.restore_best for a in state.adjustments)


def lowering(v: View) -> float:
    """What the rate is multiplied by where it must be lowered: by more where the change before brought nothing better,
    or where training is stuck before it got going."""
    if v.change is None:
        return RESCUE if v.progress < EARLY else LOWER
    return RESCUE if v.state.best_step <= v.change.step else LOWER


def zigzag(state: RunState) -> bool:
    """Whether the loss on training rows changed direction at each of the last three measurements."""
    losses = [e.train_loss for e in state.history][-4:]
    changes = [b - a for a, b in pairwise(losses)]
    return len(changes) == 3 and all(a * b < 0 for a, b in pairwise(changes))


def kept(v: View) -> str:
    """Which weights it goes on from, for the end of a sentence."""
    return f"; on from the weights of step {v.best.step}" if v.best.step else "; on from the first weights"


def back(v: View, rate: float) -> str:
    """The new rate and where it goes on from, for the end of a sentence."""
    return f"; now {max(rate, LOWEST):.3g} times the planned rate{kept(v)}"
