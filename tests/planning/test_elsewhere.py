"""How long a training would take on a GPU that is not here: it follows the arithmetic, and is a range."""

from __future__ import annotations

from llm_installer.planning.elsewhere import LAUNCHES, SHARES, seconds_on


def test_arithmetic_over_the_peak_is_a_range() -> None:
    low, high = SHARES
    assert seconds_on(1e12, 1e15, 0.0) == (1000 / high, 1000 / low)


def test_next_to_nothing_to_compute_still_takes_its_launches() -> None:
    steps, layers = 1000, 4
    least, most = seconds_on(1e15, 1.0, steps * layers * LAUNCHES)
    assert (least, most) == (steps * layers * LAUNCHES / 4, steps * layers * LAUNCHES)
