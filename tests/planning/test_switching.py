"""When ./lora becomes the adapter of a run by itself."""

from __future__ import annotations

import math
from math import hypot

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm_installer.core.changes import FORGOTTEN, Pair
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


LEARNED = Pair(3.98, 3.77, 60, 0.02)


def test_a_run_that_forgot_more_than_it_learned_is_not_switched_to() -> None:
    said = (
        "this run forgot more than it learned: the loss on text that the base wrote rose by 0.73, and that on the data "
    )
    assert why_not(Ended(True, 340, 66, 0.0, Pair(2.0, 2.73, 32, 0.05), LEARNED)) == said + "fell by 0.21"
    rise = Pair(2.0, 2.73, 32, 0.05)
    assert why_not(Ended(True, 340, 66, 0.0, rise, Pair(4.0, 3.52, 60, 0.01))), "more than 0.48 x 1.25 and the noise"
    assert not why_not(Ended(True, 340, 66, 0.0, rise, Pair(4.0, 3.4, 60, 0.01))), "about as much"
    shakespeare = Pair(0.67, 3.14, 32, 0.1), Pair(5.46, 3.23, 80, 0.1)
    assert not why_not(Ended(True, 850, 270, 0.1, *shakespeare)), "another kind of text"
    assert not why_not(Ended(True, 283, 576, 0.0, Pair(0.9, 2.9, 32, 0.1), Pair(4.1, 0.4, 31, 0.1))), "quickstart"
    assert not why_not(Ended(True, 340, 66, 0.0, Pair(2.0, 2.09, 32, 0.0), Pair(4.0, 3.99, 60, 0.0))), "no forgetting"
    assert not why_not(Ended(True, 20, 900, 0.0, Pair(2.0, 9.0, 32, 0.1), None)), "it was to memorise"
    assert not why_not(Ended(True, 340, 66, 0.0, None, LEARNED)), "the base wrote nothing"


CHANGES = st.builds(Pair, st.floats(0, 9), st.floats(0, 9), st.just(32), st.floats(0, 1))


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    st.integers(0, 100), st.integers(0, 100), st.floats(allow_nan=True) | st.none(), CHANGES | st.none(),
    CHANGES | st.none(),
)  # fmt: skip
def test_only_a_run_without_any_of_them_is_switched_to(
    rows: int, steps: int, general: float | None, own: Pair | None, learned: Pair | None
) -> None:
    fine = (rows >= FEW_ROWS or steps >= FEW_STEPS) and (general is None or general < LANGUAGE_LOST)
    if own and learned:
        more = own.change - 1.25 * max(0.0, -learned.change) > 2 * hypot(own.error, learned.error)
        fine = fine and not (own.change > FORGOTTEN and more)
    assert (why_not(Ended(True, rows, steps, general, own, learned)) == "") is fine
    assert why_not(Ended(False, rows, steps, general, own, learned))
