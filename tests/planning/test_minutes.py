"""The steps and evaluations that are counted before a run are those that it makes."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_installer.core.state import RunState
from llm_installer.planning.minutes import evaluations_left, steps_left
from llm_installer.planning.plan import Plan
from tests.generated import many
from tests.planning.test_plan import FACTS, plan


def moved(made: Plan, rows: int, done: int) -> tuple[RunState, dict[int, int]]:
    """The state after `done` steps, and the steps of each batch size after it: one by one, as a run goes."""
    state, epoch, offset, found = RunState(done=done), 0, 0, dict[int, int]()
    for step in range(made.course.total_steps):
        if step == done:
            state.epoch_index, state.epoch_offset = epoch, offset
        batch = made.batch_of(epoch)
        found[batch] = found.get(batch, 0) + (step >= done)
        offset += 1
        if offset == math.ceil(rows / batch):
            epoch, offset = epoch + 1, 0
    return state, {batch: steps for batch, steps in found.items() if steps}


@settings(max_examples=many(30), deadline=None)
@given(st.integers(1, 200), st.floats(0, 0.99), st.sampled_from(["medium", "circular", "adaptive"]))
def test_what_is_left_is_what_a_run_does(rows: int, share: float, mode: str) -> None:
    made = plan(facts=dataclasses.replace(FACTS, rows=rows, validation_rows=rows // 10), mode=mode)
    total = made.course.total_steps
    done = int(share * total)
    state, left = moved(made, rows, done)
    assert steps_left(made, state, rows) == left and sum(left.values()) == total - done
    last = [step for step in range(done + 1, total + 1) if made.course.evaluation_due(step - 1, step) or step == total]
    assert evaluations_left(made.course, done, total - done) == len(last) + (done == 0)


@pytest.mark.parametrize(("rows", "steps"), [(100, 4), (1, 1)])
def test_a_run_without_an_end_is_counted_by_its_epochs(rows: int, steps: int) -> None:
    made = plan(
        facts=dataclasses.replace(FACTS, rows=rows, validation_rows=0), mode="non-stop", effective_batch_size=25
    )
    assert steps_left(made, RunState(), rows) == {25: steps}
    assert evaluations_left(made.course, 0, steps) >= 1
