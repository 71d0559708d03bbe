"""Stop rules on curves whose answer is known."""

from __future__ import annotations

import dataclasses
import math

import pytest

from llm_installer.core.state import Evaluation, RunState
from llm_installer.planning.stopping import STOP_RULES, TASKS, least_squares_slope, stop_reason


def run(validation: list[float | None], train: list[float] | None = None, task: str = "instruct", **limits: float):
    """(evaluation at which a rule fired, 1-based and 0 for never; which rule)."""
    state, bounds = RunState(), dataclasses.replace(TASKS[task], **limits)
    for i, value in enumerate(validation):
        train_loss = train[i] if train else (value if value is not None else 0.0)
        state.record(Evaluation(i, 0.0, train_loss, value, 0.0, 0.0, 0.0, 0.0))
        if i == 0:
            continue
        state.step = i
        for name in STOP_RULES:
            if stop_reason(state, bounds, [name]):
                return i, name
    return 0, ""


FALLING = [3 - 0.1 * i for i in range(12)]
VALLEY = [3.0, 2.0, 1.5, 1.2, 1.0, 1.05, 1.1, 1.2, 1.3, 1.5]
CASES = [
    ("healthy curve", FALLING, None, {}, (0, "")),
    ("flat from the start", [2.0] + [2.0] * 8, None, {}, (4, "patience")),
    ("patience one", [2.0, 1.0, 1.0], None, {"patience": 1}, (2, "patience")),
    ("valley without a gap", VALLEY, VALLEY, {}, (7, "patience")),
    ("valley, gap opens", VALLEY, [3, 2, 1.4, 1.0, 0.7, 0.4, 0.3, 0.2, 0.1, 0.1], {"patience": 9}, (7, "overfitting")),
    ("gap but falling", FALLING, [f / 2 for f in FALLING], {}, (0, "")),
    ("gap below threshold", VALLEY, VALLEY, {"patience": 9, "overfitting_threshold": 0.1}, (0, "")),
    ("too few to judge", VALLEY[:5], [0.1] * 5, {"patience": 9}, (0, "")),
    ("text waits longer", [2.0, *[2.0] * 6], None, {"task": "text"}, (6, "patience")),
    ("nan validation", [2.0, 1.0, math.nan], None, {}, (2, "non-finite loss")),
    ("infinite train loss", [2.0, 1.0], [2.0, math.inf], {}, (1, "non-finite loss")),
    ("no validation, train falls", [None] * 6, [3.0, 2.0, 1.0, 0.5, 0.2, 0.1], {}, (0, "")),
    ("no validation, train flat", [None] * 6, [3.0, 1.0, 1.0, 1.0, 1.0, 1.0], {}, (4, "patience")),
    ("one bad measurement", [3.0, 2.0, 2.5, 1.5, 1.0, 0.9, 0.8], None, {}, (0, "")),
    ("recovers at the last moment", [3.0, 2.0, 2.1, 2.1, 1.9, 1.8], None, {}, (0, "")),
]


@pytest.mark.parametrize(("name", "validation", "train", "limits", "expected"), CASES, ids=[c[0] for c in CASES])
def test_known_curves(name, validation, train, limits, expected) -> None:
    assert run(validation, train, **limits) == expected


def test_best_is_the_lowest_finite_validation_loss() -> None:
    state = RunState()
    for step, loss in enumerate([5.0, 4.0, 3.0, math.nan, 3.5]):
        state.record(Evaluation(step, 0.0, 0.0, loss, 0.0, 0.0, 0.0, 0.0))
    assert (state.base_loss, state.best_loss, state.best_step) == (5.0, 3.0, 2)
    assert state.evaluations_without_improvement == 2


def test_slope_is_the_least_squares_one() -> None:
    assert least_squares_slope([1.0, 3.0, 2.0, 5.0]) == pytest.approx(1.1)
    assert least_squares_slope([4.0]) == 0.0
