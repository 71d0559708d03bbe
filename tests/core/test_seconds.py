"""Where the seconds of a command go: each in one phase, so that they add up."""

from __future__ import annotations

import time

import pytest

from llm_installer.core.seconds import keeping, process_began, said, so_far, turn
from llm_installer.core.speed import timed


def test_every_second_is_in_one_phase(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(100))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    phases: dict[str, float] = {}
    with keeping(-7.0) as ledger:
        with timed(phases, "read"):
            pass
        turn("report")
        with pytest.raises(OSError), timed(phases, "train"), timed(phases, "save"):
            raise OSError
        found, now = ledger.so_far(), next(clock)
    assert sum(found.values()) == now - 1 + 7
    assert found["start"] >= 7 and set(found) == {"start", "read", "report", "train", "save"}
    assert turn("load") == "load" and so_far() == {}, "in somebody else's program nothing is kept"


def test_the_line_adds_up() -> None:
    seconds = {"start": 3.04, "train": 40.0, "load": 0.2, "encode": 0.3, "answer": 6.1}
    assert said(seconds) == "Seconds: start 3.0, train 40.0, answers 6.1, other 0.5; 49.6 in all."
    assert said({"train": 1.0}) == "Seconds: train 1.0; 1.0 in all."


def test_a_process_knows_when_it_was_started() -> None:
    began = process_began()
    assert began <= time.monotonic() and process_began() == pytest.approx(began, abs=0.1)
