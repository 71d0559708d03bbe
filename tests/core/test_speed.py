"""What a run says about its own speed."""

from __future__ import annotations

import time

import pytest

from llm_installer.core.speed import Speed, timed

SPEED = Speed(1234.5, 0.414, "this CPU's bfloat16 limit", 2**30, 3 * 2**29, {"train": 90.4, "load": 0.1, "encode": 2.0})


def test_the_closing_line() -> None:
    assert SPEED.said() == (
        "1,234 tokens/s, 41% of this CPU's bfloat16 limit; 1.0 GiB at most of 1.5 planned; seconds: encode 2, train 90."
    )


def test_an_unknown_limit_and_plan_are_not_said() -> None:
    found = Speed(10.0, None, "", 2**30, 0, {})
    assert found.said() == "10 tokens/s; 1.0 GiB at most."
    assert found.scalars() == {"speed/tokens_per_second": 10.0}


def test_phases_are_curves() -> None:
    assert SPEED.scalars()["phase_seconds/train"] == 90.4
    assert SPEED.scalars()["speed/share_of_limit"] == 0.414


def test_a_phase_grows_with_each_time_even_where_it_fails() -> None:
    phases: dict[str, float] = {"save": 5.0}
    began = time.monotonic()
    with pytest.raises(OSError), timed(phases, "save"):
        raise OSError
    assert 5.0 <= phases["save"] <= 5.0 + time.monotonic() - began
