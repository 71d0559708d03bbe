"""The table of states: every arrow leads somewhere, everything can end, and four words cover them all."""

from __future__ import annotations

import pytest

from llm_installer.studio.states import (
    ARROWS,
    CLAIMABLE,
    ENDED,
    HELD,
    STATES,
    STATUSES,
    allowed,
    status_of,
    words_of,
)


@pytest.mark.parametrize("state", STATES)
def test_every_state_is_in_one_group_and_has_words_and_a_status(state: str) -> None:
    assert sum(state in group for group in (CLAIMABLE, HELD, ENDED)) == 1
    assert words_of(state) and status_of(state) in STATUSES
    assert set(ARROWS[state]) <= set(STATES)


@pytest.mark.parametrize("state", STATES)
def test_every_job_can_come_to_each_end(state: str) -> None:
    reached, waiting = {state}, [state]
    while waiting:
        for after in ARROWS[waiting.pop()]:
            if after not in reached:
                reached.add(after)
                waiting.append(after)
    assert state == "completed" or {"completed", "failed", "cancelled"} <= reached


def test_what_has_ended_well_stays_and_cancelled_never_shows_as_a_status() -> None:
    assert ARROWS["completed"] == ()
    assert "cancelled" not in STATUSES
    assert {status_of(state) for state in ENDED} == {"completed", "failed"}
    assert not allowed("queued", "completed")
