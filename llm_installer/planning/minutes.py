"""How many steps of which size and how many evaluations are left of a run: what its time is made of. Pure."""

from __future__ import annotations

import math

from llm_installer.core.state import RunState
from llm_installer.planning.course import Course
from llm_installer.planning.plan import Plan

MANY = 1_000_000
"""Steps from which evaluations are divided rather than counted: a few more or less make no difference there."""


def steps_left(plan: Plan, state: RunState, rows: int) -> dict[int, int]:
    """Batch size -> steps of it from where `state` stands; `rows` make an epoch.

    Of a run without an end: the steps of one epoch.
    """
    found: dict[int, int] = {}
    left, epoch, offset = plan.course.total_steps - state.done, state.epoch_index, state.epoch_offset
    if not plan.course.total_steps:
        batch = plan.batch_of(epoch)
        return {batch: math.ceil(rows / batch)}
    while left > 0:
        batch = plan.batch_of(epoch)
        steps = min(left, max(0, math.ceil(rows / batch) - offset))
        found[batch] = found.get(batch, 0) + steps
        left, epoch, offset = left - steps, epoch + 1, 0
    return {batch: steps for batch, steps in found.items() if steps}


def evaluations_left(course: Course, done: int, steps: int) -> int:
    """Evaluations in the next `steps` steps after `done`, the one before the first step and the one at the end too."""
    end = bool(course.total_steps and steps)  # the last step is evaluated whether or not it is due
    if steps > MANY:
        return steps // course.evaluation_every + end + (not done)
    due = sum(course.evaluation_due(step - 1, step) for step in range(done + 1, done + steps + 1 - end))
    return due + end + (not done)
