"""What may change between two evaluations. Mode adaptive finds trouble in them, and changes rate, batch or weights.

Pure: the same history gives the same changes, so a resumed run goes the way it would have gone. "Rate" is the
learning rate throughout.

Sources. Raise while the loss falls, and take back what made it worse: the bold driver (Vogl et al., 1988, Biological
Cybernetics 59), on a run's own steps what a learning rate range test does before it (Smith, 2017, arXiv 1506.01186).
Lower the rate where the loss no longer falls: ReduceLROnPlateau of PyTorch. Join steps where it swings: Smith et al.,
2018, arXiv 1711.00489. Go back to the best weights before a lower rate: early stopping with a second try.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from llm_installer.core.state import Adjustment, RunState
from llm_installer.planning.controller_view import HIGHEST, LOWEST, View, joined, lowered, monitored, raised, zigzag
from llm_installer.planning.plan import Plan

RAISE, LOWER, RESCUE = 2.0, 0.5, 0.25
"""What the rate is multiplied by: where it is too low, where nothing gets better, where training breaks."""
LARGEST_BATCH = 4
"""Most planned steps that are joined into one."""
CLEAR = 0.001
"""Share of the loss by which it must change to count as falling or rising."""
STEADY = 0.6
"""A fall is steady where it is at least this share of the fall before, per epoch; also where a raise pays."""
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

Rule = Callable[[View], "Adjustment | None"]
Controller = Callable[[RunState, Plan], "Adjustment | None"]


def broken(v: View) -> Adjustment | None:
    """The loss is not a finite number, or both losses are far above the best: the rate is too high."""
    best, last = v.best, v.last
    far = monitored(last) > monitored(best) * (1 + BROKEN) and last.train_loss > best.train_loss * (1 + BROKEN)
    if math.isfinite(monitored(last)) and math.isfinite(last.train_loss) and not far:
        return None
    how = f"rose from {monitored(best):.4g} to {monitored(last):.4g}" if far else "is no longer a finite number"
    rate = min(v.before[0], v.state.rate_scale * LOWER) if raised(v) else v.state.rate_scale * RESCUE
    return v.set(f"the loss {how}, so the learning rate is too high{back(v, rate)}", rate, restore=True)


def raised_too_far(v: View) -> Adjustment | None:
    """The newest raise made it worse, or no faster: take it back."""
    if not raised(v) or len(v.trial) != 2:
        return None
    start, last = v.trial
    rate, falls = v.before[0], v.falls
    if monitored(last) > monitored(start) * (1 + CLEAR):
        why = f"the higher learning rate made the loss rise to {monitored(last):.4g}{back(v, rate)}"
        return v.set(why, rate, restore=True)
    if falls[-1] >= falls[0] * STEADY:
        return None
    again = f"so it is back at {rate:g} times the planned one"
    return v.set(f"the higher learning rate made the loss fall no faster, {again}", rate)


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
    grown = last.validation_loss / max(last.train_loss, 1e-9) / (monitored(best) / max(best.train_loss, 1e-9)) - 1
    if grown < GAP or last.train_loss >= best.train_loss:
        return None
    rate = v.state.rate_scale * lowering(v)
    why = f"only the loss on training rows still falls, so the model memorises them{back(v, rate)}"
    return v.set(why, rate, restore=True)


def swinging(v: View) -> Adjustment | None:
    """The loss goes up and down, also at a lower rate: fewer steps of more rows."""
    batch = v.state.batch_scale * 2
    joined_before = any(a.batch_scale > v.state.batch_scale for a in v.state.adjustments)
    if not no_progress(v) or batch > LARGEST_BATCH or joined_before or joined(v):
        return None
    if not (zigzag(v.state) and any(a.rate_scale < 1 for a in v.state.adjustments)):
        return None
    return v.set(
        f"the loss goes up and down without progress, so each step now takes {batch} times the planned rows{kept(v)}",
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
    """The loss falls as fast as before, or a raise paid: a higher rate is tried."""
    falls, rate = v.falls, v.state.rate_scale * RAISE
    warming_up = v.state.done <= v.plan.course.warmup_steps
    if v.progress > RAISES_UNTIL or warming_up or lowered(v.state) or rate > HIGHEST:
        return None
    if len(falls) < 2 or falls[-1] < falls[0] * STEADY or falls[0] <= 0:
        return None
    if monitored(v.last) > monitored(v.state.history[-2]) * (1 - CLEAR):
        return None
    return v.set(f"the loss falls steadily, so {rate:g} times the planned learning rate is tried", rate)


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
    """The change that the first rule wants, or None. None, too, where the rows are memorised or the end is near."""
    view = View(state, plan)
    if state.step == 0 or view.last.train_loss <= plan.course.limits.perfect_loss or view.progress > CHANGES_UNTIL:
        return None
    if state.rate_scale <= LOWEST:
        return None
    return next((change for rule in RULES.values() if (change := rule(view))), None)


def rate_too_high(v: View) -> bool:
    """Whether the loss on training rows does not fall either, so that what is in the way is no memorising."""
    return v.last.train_loss > v.best.train_loss * (1 - CLEAR)


def patient(state: RunState, plan: Plan) -> Adjustment | None:
    """Half the rate from the best weights, where patience would end the run for a rate that is too high."""
    view, patience = View(state, plan), plan.course.limits.patience
    out = state.evaluations_without_improvement >= patience and "patience" in plan.course.stop_rules
    if not out or not no_progress(view) or view.progress > CHANGES_UNTIL or not rate_too_high(view):
        return None
    rate = state.rate_scale * LOWER
    return view.set(f"the loss no longer falls, on training rows neither{back(view, rate)}", rate, restore=True)


CONTROLLERS: dict[str, Controller] = {"none": lambda state, plan: None, "patient": patient, "adaptive": adaptive}
"""Name -> what to change after an evaluation; None for nothing."""


def lowering(v: View) -> float:
    """What the rate is multiplied by where it must be lowered: by more where the change before brought nothing better,
    or where training is stuck before it got going."""
    if v.change is None:
        return RESCUE if v.progress < EARLY else LOWER
    return RESCUE if v.state.best_step <= v.change.step else LOWER


def kept(v: View) -> str:
    """Which weights training continues from, for the end of a sentence."""
    return f"; continues from the {f'weights of step {v.best.step}' if v.best.step else 'first weights'}"


def back(v: View, rate: float) -> str:
    """The new rate and which weights training continues from, for the end of a sentence."""
    return f"; now {max(rate, LOWEST):.3g} times the planned learning rate{kept(v)}"
