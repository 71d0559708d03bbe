"""What another shell sees and asks: the status file and the requests folder."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import pytest

from llm_installer.core.run.header import RunHeader
from llm_installer.core.run.progress import Progress
from llm_installer.core.run.requests import STOP_REASON
from llm_installer.core.run.signals import Requests
from llm_installer.core.state import RunState, StepReport
from llm_installer.training.reporters.requests import WRITE_SECONDS, RequestsReporter


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def header(make_header: Callable[..., RunHeader]) -> RunHeader:
    made = make_header()
    made.run.requests.mkdir()
    return made


def step(number: int, loss: float = 1.0) -> StepReport:
    return StepReport(number, number / 20, loss, 1e-4, 1.0, 8, 0.5)


def test_status_is_written_at_most_once_a_second_and_at_the_end(header: RunHeader) -> None:
    clock, shown = Clock(), set[int]()
    reporter = RequestsReporter(header, Requests(), clock)
    reporter.on_start(header)
    for number in range(1, 101):
        clock.time += WRITE_SECONDS / 10
        reporter.on_step(step(number))
        found = Progress.read(header.run)
        assert found and found.training
        shown.add(found.step)
    assert len(shown) in (10, 11)
    reporter.on_end(RunState(step=100, best_loss=0.5, best_step=90), None)
    found = Progress.read(header.run)
    assert found and (found.step, found.best_loss, found.training) == (100, 0.5, False)


def test_what_is_no_number_is_null(header: RunHeader) -> None:
    reporter = RequestsReporter(header, Requests(), Clock())
    reporter.on_step(step(1, math.nan))
    values = json.loads(header.run.progress.read_text(), parse_constant=pytest.fail)
    assert values["loss"] is None
    assert Progress.read(header.run)


@pytest.mark.parametrize("torn", ["", "{", "[]", "{}"])
def test_a_status_that_cannot_be_read_is_none(header: RunHeader, torn: str) -> None:
    header.run.progress.write_text(torn)
    assert Progress.read(header.run) is None


def test_a_save_is_confirmed_once_it_was_made_and_a_later_one_is_another(header: RunHeader) -> None:
    requests = Requests()
    reporter = RequestsReporter(header, requests, Clock())
    reporter.on_start(header)
    one, two = header.run.requests / "save-1", header.run.requests / "save-2"
    one.touch()
    assert not requests.save, "nobody looks between two steps"
    reporter.on_step(step(1))
    assert requests.save
    two.touch()
    reporter.on_event("save", RunState())
    assert one.exists(), "the checkpoint is only about to be written"
    requests.saved()
    reporter.on_event("step begin", RunState())
    assert not one.exists() and two.exists(), "who asked after that step has its save still to come"
    reporter.on_step(step(2))
    assert requests.save
    requests.saved()
    reporter.on_end(RunState(), None)
    assert not two.exists()


def test_a_save_that_never_came_is_not_confirmed(header: RunHeader) -> None:
    reporter = RequestsReporter(header, Requests(), Clock())
    request = header.run.requests / "save-1"
    request.touch()
    reporter.on_step(step(1))
    reporter.on_end(RunState(), None)
    assert request.exists()


def test_a_stop_reaches_the_loop_even_when_the_disk_takes_no_status(header: RunHeader) -> None:
    requests = Requests()
    reporter = RequestsReporter(header, requests, Clock())
    header.run.progress.with_name(".status.json.new").mkdir()  # nothing can be written there now
    reporter.on_start(header)
    reporter.on_step(step(1))
    assert not requests.why
    (header.run.requests / "stop-7").touch()
    (header.run.requests / "something else").touch()
    reporter.on_step(step(2))
    assert requests.why == STOP_REASON
    assert Progress.read(header.run) is None


def test_without_a_requests_folder_nothing_is_asked(header: RunHeader) -> None:
    header.run.requests.rmdir()
    RequestsReporter(header, Requests(), Clock()).on_step(step(1))
