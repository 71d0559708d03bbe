"""How long a run will take, in words and in numbers that the run corrects."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_installer.core.paths import Run
from llm_installer.core.run.forecast import Duration, Forecast
from llm_installer.core.text import duration, span

MINUTES = Forecast(step=2.0, evaluation=3.0, steps=120, evaluations=10, after=20.0)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.2, "less than a second"),
        (1.0, "1 second"),
        (7.4, "7 seconds"),
        (41.0, "40 seconds"),
        (89.0, "90 seconds"),
        (91.0, "1.5 minutes"),
        (300.0, "5 minutes"),
        (3600.0, "60 minutes"),
        (9000.0, "2.5 hours"),
        (200_000.0, "2.5 days"),
    ],
)
def test_a_time_is_said_as_people_say_it(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_a_range_has_one_unit_and_one_number_where_both_are_the_same() -> None:
    assert span(240, 360) == "4 to 6 minutes"
    assert span(50, 100) == "1 to 1.5 minutes"
    assert span(7200, 7300) == "2 hours"
    assert span(0.3, 2.0) == "0.5 to 2 seconds"
    assert span(0.1, 1.0) == "1 second"


@given(st.floats(0, 1e7), st.floats(1, 3))
def test_a_range_never_reads_backwards(seconds: float, factor: float) -> None:
    words = span(seconds, seconds * factor).split()
    if words[1:2] == ["to"]:
        assert float(words[0]) < float(words[2])


def test_a_forecast_says_the_range_and_what_an_evaluation_takes() -> None:
    assert MINUTES.total == 290
    assert MINUTES.said() == "Time: about 4 to 6 minutes; one evaluation takes 3 seconds."
    early = dataclasses.replace(MINUTES, early=True).said()
    assert early == "Time: about 4 to 6 minutes, less where it stops early; one evaluation takes 3 seconds."
    endless = dataclasses.replace(MINUTES, endless=True).said()
    assert endless == "Time: about 4 to 5 minutes an epoch, until you stop it; one evaluation takes 3 seconds."
    assert dataclasses.replace(MINUTES, before=290.0).said().startswith("Time: about 8 to 12 minutes;")


@given(st.integers(1, 120), st.floats(0.01, 100))
def test_what_is_left_lies_between_what_was_planned_and_what_the_steps_took(done: int, each: float) -> None:
    left, planned = 120 - done, MINUTES.loop / MINUTES.steps
    found = MINUTES.remaining(left, done, done * each)
    low, high = sorted((planned, each))
    assert left * low * 0.999 <= found <= left * high * 1.001
    assert MINUTES.remaining(120, 0, 0.0) == pytest.approx(MINUTES.loop)


def test_a_run_remembers_what_was_predicted_and_what_it_took(tmp_path: Path) -> None:
    run, planned = Run(tmp_path), Duration.planned(MINUTES)
    assert Duration.read(run) is None
    planned.write(run)
    assert Duration.read(run) == planned and planned.said() == ""
    took = dataclasses.replace(planned, took_seconds=312.0)
    took.write(run)
    assert Duration.read(run) == took
    assert took.said() == "Predicted about 4 to 6 minutes, took 5 minutes."
