"""What earlier trainings took corrects what is said of the next one."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_installer.core.run.forecast import Forecast
from llm_installer.core.run.history import (
    ENOUGH,
    LATEST,
    WIDEST,
    Past,
    bounds,
    history_file,
    ratios,
    read_history,
    remember,
)

FORECAST = Forecast(step=10.0, evaluation=0.0, steps=60, evaluations=0, after=0.0)


@pytest.mark.parametrize(
    ("past", "words"),
    [
        ((), "about 8 to 12 minutes"),
        ((3.0, 3.0), "about 8 to 12 minutes"),
        ((2.0, 2.0, 2.0), "about 17 to 25 minutes"),
        ((0.5, 1.0, 2.0, 4.0), "about 9 to 25 minutes"),
    ],
)
def test_some_trainings_move_and_widen_the_range(past: tuple[float, ...], words: str) -> None:
    assert dataclasses.replace(FORECAST, past=past).range == words
    assert FORECAST.total == 600, "the prediction itself stays, so that the next ratio means the same"


def test_only_trainings_like_this_one_on_this_device_count() -> None:
    past = [
        Past("cpu", 600, 900),
        Past("cuda", 600, 60),
        Past("cpu", 10, 100),
        Past("cpu", 9000, 1),
        Past("cpu", 300, 1e9),
    ]
    assert ratios(600, "cpu", past) == (1.5, WIDEST)
    assert ratios(0, "cpu", past) == ()
    assert len(ratios(600, "cpu", [Past("cpu", 600, 600)] * 100)) == LATEST


@given(st.floats(0.1, 1e7), st.lists(st.floats(1e-3, 1e3), max_size=30))
def test_what_happened_most_often_is_in_the_range(seconds: float, taken: list[float]) -> None:
    found = ratios(seconds, "d", [Past("d", seconds, seconds * ratio) for ratio in taken])
    least, most = bounds(seconds, found)
    assert 0 < least < most
    if len(found) >= ENOUGH:
        assert least <= seconds * sorted(found)[len(found) // 2] <= most


def test_the_history_is_a_file_that_may_be_missing_or_damaged(llm_home: Path) -> None:
    assert read_history() == []
    remember(Past("cpu", 1.0, 2.0))  # there is no such folder yet
    llm_home.mkdir(parents=True, exist_ok=True)
    remember(Past("cpu", 1.0, 2.0))
    with history_file().open("ab") as file:
        file.write(b'half a li\n[]\n{"device": "cpu"}\n{"device": "cpu", "predicted": 0, "took": 1}\n')
    remember(Past("cuda", 3.0, 4.0))
    assert read_history() == [Past("cpu", 1.0, 2.0), Past("cuda", 3.0, 4.0)]
