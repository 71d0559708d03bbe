"""When ./lora becomes the adapter of a run by itself."""

from __future__ import annotations

import math

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm_installer.planning.switching import FEW_ROWS, FEW_STEPS, LANGUAGE_LOST, Ended, why_not


def test_a_run_that_learned_something_becomes_the_current_one() -> None:
    assert why_not(Ended(True, 20, 3, 0.2)) == ""
    assert why_not(Ended(True, 2, 60, 1.0)) == "", "two rows learned by heart are what was wanted"
    assert why_not(Ended(True, 5000, 1, None)) == ""


def test_each_reason_is_said() -> None:
    assert why_not(Ended(False, 20, 3, 0.0)) == "no evaluation beat the base model"
    assert why_not(Ended(True, 2, 1, 0.0)) == "1 step on 2 rows can hardly have taught the model anything"
    assert why_not(Ended(True, 200, 90, 8.0)).endswith(
        "forgot its language in this run: the loss on general text rose by 8.0"
    )
    assert why_not(Ended(True, 200, 90, math.nan)).endswith("the loss on general text is not a finite number")


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.integers(0, 100), st.integers(0, 100), st.floats(allow_nan=True) | st.none())
def test_only_a_run_without_any_of_them_is_switched_to(rows: int, steps: int, general: float | None) -> None:
    fine = (rows >= FEW_ROWS or steps >= FEW_STEPS) and (general is None or general < LANGUAGE_LOST)
    assert (why_not(Ended(True, rows, steps, general)) == "") is fine
    assert why_not(Ended(False, rows, steps, general))
