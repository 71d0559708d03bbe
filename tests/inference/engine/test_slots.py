"""Slots take what the rows of one moment need, not the product of the most rows and the longest that ever were."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_installer.inference.engine.slots import STEP, Slots


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 32), st.integers(1, 2000)), min_size=1, max_size=8))
def test_no_more_is_held_than_one_moment_needed(crowds: list[tuple[int, int]]) -> None:
    slots, most = Slots(1), 0
    for rows, length in crowds:
        slots.reserve(rows, length, 0)
        slots.reading(rows, 0, length)
        slots.cache.update(torch.ones(rows, 1, length, 1), torch.ones(rows, 1, length, 1), 0)
        most = max(most, rows * (length + STEP))
        assert slots.bytes <= 2 * 4 * most


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 150)), max_size=6))
@settings(max_examples=60, deadline=None)
def test_what_rows_hold_stays_when_others_come_and_texts_grow(more: list[tuple[int, int]]) -> None:
    slots, rows, length = Slots(1), 1, 2
    slots.reserve(40, length, 0)
    slots.reading(rows, 0, length)
    held = torch.arange(length, dtype=torch.float32).view(1, 1, length, 1)
    slots.cache.update(held, held, 0)
    for others, longer in more:
        rows, length = rows + others, length + longer
        slots.reserve(rows, length, 2)
        ((keys, values),) = slots.look(0, 2)
        assert torch.equal(keys, held) and torch.equal(values, held)
