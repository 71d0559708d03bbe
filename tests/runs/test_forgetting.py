"""What a run forgot, in sentences, and the verdict that counts the noise."""

from __future__ import annotations

import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm_installer.core.changes import FORGOTTEN, Changes, Pair
from llm_installer.runs.forgetting import NAMES, found_forgotten, verdict

TRAINING, VALIDATION = Pair(4.0, 1.0, 40, 0.1), Pair(4.0, 1.5, 5, 0.2)


def changes(general: float, own: float | None, error: float = 0.05, validation: Pair | None = VALIDATION) -> Changes:
    written = None if own is None else Pair(1.0, 1.0 + own, 32, error)
    return Changes(TRAINING, validation, Pair(3.0, 3.0 + general, 30, error), (), written, "there is not enough memory")


def test_both_texts_get_a_sentence_each_with_their_noise() -> None:
    assert found_forgotten(changes(-1e-9, 1.92)) == [
        "General text (30 sentences): loss per token +0.00, within the noise of 0.10.",
        "Text that the base wrote (32 samples): loss per token +1.92, beyond the noise of 0.10.",
    ]
    assert found_forgotten(changes(-0.49, None)) == [
        "General text (30 sentences): loss per token -0.49, beyond the noise of 0.10.",
        "Text that the base wrote: none, for there is not enough memory.",
    ]
    assert "the loss is not a finite number" in found_forgotten(changes(math.nan, 0.0))[0]
    assert "+0.20, within the noise." in found_forgotten(changes(0.0, 0.2, error=math.inf))[1]


@pytest.mark.parametrize(
    ("general", "own", "error", "says"),
    [
        (0.0, 0.05, 0.01, "none"),
        (-0.9, 0.0, 0.01, "none"),
        (0.0, 0.9, 0.5, "none"),
        (0.3, 0.05, 0.05, "a little, but less than it learned (the loss on validation rows fell by 2.50)"),
        (0.0, 0.73, 0.05, "much, but less than it learned (the loss on validation rows fell by 2.50)"),
        (0.6, None, 0.05, "much, but less than it learned (the loss on validation rows fell by 2.50)"),
        (0.0, 2.6, 0.05, "much, about as much as it learned (the loss on validation rows fell by 2.50)"),
        (0.0, 3.9, 0.05, "much, more than it learned (the loss on validation rows fell by 2.50)"),
        (0.0, math.nan, 0.05, "unknown, for the loss is not a finite number"),
        (math.inf, None, 0.05, "unknown, for the loss is not a finite number"),
    ],
)
def test_the_verdict_is_that_of_the_worse_text(general: float, own: float | None, error: float, says: str) -> None:
    assert verdict(changes(general, own, error), memorising=False) == says


def test_what_was_learned_is_what_the_run_was_for() -> None:
    assert "training rows fell by 3.00" in verdict(changes(0.0, 0.9, validation=None), memorising=False)
    assert "training rows fell by 3.00" in verdict(changes(0.0, 0.9), memorising=True)
    worse = Pair(1.0, 1.5, 5, 0.01)
    assert "more than it learned (the loss on validation rows rose by 0.50)" in verdict(
        changes(0.0, 0.9, validation=worse), memorising=False
    )


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.floats(-5, 5), st.none() | st.floats(-5, 5), st.floats(0, 2))
def test_only_a_rise_beyond_the_noise_is_forgetting(general: float, own: float | None, error: float) -> None:
    rises = [pair.change for pair in (Pair(3, 3 + general, 30), Pair(1, 1 + (own or 0.0), 32))]
    forgot = max(rises) > max(FORGOTTEN, 2 * error)
    assert verdict(changes(general, own, error), memorising=False).startswith(NAMES[0][1]) is not forgot
