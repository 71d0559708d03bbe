"""When a run says that a longer one would likely learn more."""

from __future__ import annotations

import dataclasses

import pytest

from llm_installer.core.state import Evaluation, RunState
from llm_installer.planning.longer import longer
from llm_installer.planning.modes import MODES
from llm_installer.planning.plan import Plan
from tests.planning.test_controller import plan

SAYS = "a longer run would likely learn more (--epochs 6)."
FALLING = [(4.0, 4.0), (3.0, 3.0), (2.6, 2.55), (2.4, 2.3)]


def ended(losses: list[tuple[float, float]], made: Plan, why: str = "") -> RunState:
    """A run of four evaluations that ended; its (validation, training) losses."""
    state, total = RunState(), made.course.total_steps
    for i, (validation, train) in enumerate(losses):
        state.step = state.done = round(i * total / (len(losses) - 1))
        state.record(Evaluation(state.step, 0.0, train, validation, 1e-3, 1.0, 0.0, 0.0))
    state.stop_reason = why or MODES[made.mode].ended()
    return state


@pytest.mark.parametrize(
    ("losses", "why", "says"),
    [
        (FALLING, "", True),
        (FALLING, "the loss on validation rows has not improved", False),
        ([*FALLING[:3], (2.4, 2.0)], "", False),  # it memorises
        ([*FALLING[:3], (2.59, 2.55)], "", False),  # it hardly falls
        ([*FALLING[:3], (2.7, 2.6)], "", False),  # the best came before
    ],
)
def test_it_says_so_where_the_best_came_last(losses: list[tuple[float, float]], why: str, says: bool) -> None:
    made = plan("medium")
    assert longer(ended(losses, made, why), made).endswith(SAYS) == says


def test_modes_without_a_length_of_their_own_say_nothing() -> None:
    made = plan("circular")
    assert not longer(ended(FALLING, made), made)
    made = plan("medium")
    endless = dataclasses.replace(made, course=dataclasses.replace(made.course, total_steps=0))
    assert not longer(ended(FALLING, made), endless)
