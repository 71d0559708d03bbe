"""Cutting all rows at once gives what cutting them one by one gives, and copies nothing."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_installer.data.encoding.cutting import cut, cut_shares, lost_shares
from llm_installer.data.encoding.encoded import EncodedSet, EncodedWriter
from llm_installer.data.encoding.row import Row
from tests.generated import many


def first_masked(supervised: np.ndarray) -> np.ndarray:
    copy = supervised.copy()
    copy[:1] = False
    return copy


def window(row: Row, limit: int) -> np.ndarray:
    masked = np.flatnonzero(~row.supervised)
    answer = int(masked[-1]) + 1 if len(masked) else 0
    start = min(len(row.ids) - limit, max(0, answer - max(1, limit // 8)))
    return np.concatenate([[0], np.arange(start + 1, start + limit)]).astype(np.int64)


def cut_one(row: Row, limit: int) -> list[Row]:
    """The reference, one row at a time."""
    if len(row.ids) <= limit:
        return [row]
    if row.text:
        starts = range(0, len(row.ids) - 1, limit - 1)
        return [
            Row(row.ids[s : s + limit], first_masked(row.supervised[s : s + limit]), row.source, True) for s in starts
        ]
    keep = window(row, limit)
    return [Row(row.ids[keep], first_masked(row.supervised[keep]), row.source)]


def lost_one(row: Row, limit: int) -> int:
    if len(row.ids) <= limit:
        return 0
    kept = 0 if row.text else first_masked(row.supervised[window(row, limit)]).sum()
    return int(row.supervised.sum() - kept)


def same(found: EncodedSet, expected: list[Row]) -> None:
    assert [r.ids.tolist() for r in found] == [r.ids.tolist() for r in expected]
    assert [r.supervised.tolist() for r in found] == [r.supervised.tolist() for r in expected]
    assert [(r.source, r.text) for r in found] == [(r.source, r.text) for r in expected]
    assert found.lengths.tolist() == [len(r.ids) for r in expected]
    assert found.counts.tolist() == [int(r.supervised.sum()) for r in expected]


@st.composite
def row_lists(draw: st.DrawFn) -> list[Row]:
    rows = []
    for source in range(draw(st.integers(0, 6))):
        length = draw(st.integers(1, 300))
        random = np.random.default_rng(draw(st.integers(0, 1000)))
        runs = random.random(length) < draw(st.sampled_from([0.0, 0.02, 0.5, 1.0]))
        supervised = np.logical_xor.accumulate(runs) if draw(st.booleans()) else runs
        ids = random.integers(0, 1000, length).astype(np.int32)
        rows.append(Row(ids, first_masked(supervised), source, draw(st.booleans())))
    return rows


@settings(max_examples=many(200), deadline=None)
@given(row_lists(), st.integers(2, 320), st.integers(2, 64))
def test_cutting_is_what_it_is_row_by_row(rows: list[Row], limit: int, again: int) -> None:
    expected = [r for row in rows for r in cut_one(row, limit) if r.supervised.any()]
    found = cut(rows, limit)
    same(found, expected)
    same(cut(found, again), [r for row in expected for r in cut_one(row, again) if r.supervised.any()])


@settings(max_examples=many(100), deadline=None)
@given(row_lists(), st.sampled_from([8, 64]))
def test_lost_shares_are_what_they_are_row_by_row(rows: list[Row], step: int) -> None:
    total = sum(int(r.supervised.sum()) for r in rows) or 1
    longest = max((len(r.ids) for r in rows), default=step)
    limits = [*range(step, longest, step), longest]
    assert lost_shares(rows, step) == [(n, sum(lost_one(r, n) for r in rows) / total) for n in limits]


def many(rows: int, length: int) -> EncodedSet:
    ids = np.arange(rows * length, dtype=np.int32)
    starts = np.arange(rows) * length
    lengths, counts = np.full(rows, length), np.full(rows, length // 2)
    supervised = ids % length >= length - length // 2
    no_text, no_images = np.zeros(rows, np.bool_), np.zeros(rows, np.int64)
    return EncodedSet(ids, supervised, starts, starts, lengths, counts, np.arange(rows), no_text, no_images)


def test_a_million_rows_cost_no_more_than_a_moment() -> None:
    rows = many(1_000_000, 24)
    began = time.process_time()
    short, cut_ones = cut(rows, 24), cut(rows, 16)
    assert time.process_time() - began < 4
    assert len(short) == len(cut_ones) == 1_000_000
    assert np.shares_memory(short.ids, rows.ids) and np.shares_memory(cut_ones.ids, rows.ids)
    assert cut_ones[3].ids.tolist() == [72, *range(81, 96)]


def test_looking_at_losses_takes_one_pass() -> None:
    began = time.process_time()
    shares = lost_shares(many(100_000, 200))
    assert [limit for limit, _ in shares] == [64, 128, 192, 200]
    assert shares[-1][1] == 0 and shares[0][1] > 0.3
    assert time.process_time() - began < 4


def rows_of(lengths: list[int]) -> list[Row]:
    return [Row(np.arange(n, dtype=np.int32), np.arange(n) > n // 2, i, i % 3 == 0) for i, n in enumerate(lengths)]


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    rows = rows_of([5, 1, 30, 2, 7])
    for folder, part in ((tmp_path / "a", rows[:2]), (tmp_path / "b", rows[2:]), (tmp_path / "all", [])):
        folder.mkdir()
        writer = EncodedWriter(folder)
        for row in part:
            writer.append([row])
        writer.close()
    whole = EncodedWriter(tmp_path / "all")
    whole.append_folder(tmp_path / "a")
    whole.append_folder(tmp_path / "b")
    whole.close()
    same(EncodedSet.load(tmp_path / "all"), rows)
    same(EncodedSet.load(tmp_path / "all")[1:4], rows[1:4])
    same(EncodedSet.load(tmp_path / "all").select(np.array([4, 0, 4])), [rows[4], rows[0], rows[4]])


def test_no_rows_at_all(tmp_path: Path) -> None:
    EncodedWriter(tmp_path).close()
    assert len(EncodedSet.load(tmp_path)) == len(EncodedSet.of([])) == len(cut([], 8)) == 0
    assert lost_shares([]) == [(64, 0.0)]


@pytest.mark.parametrize("index", [0, -1, 2])
def test_it_is_indexed_as_a_list(index: int) -> None:
    rows = rows_of([5, 9, 30])
    assert EncodedSet.of(rows)[index].ids.tolist() == rows[index].ids.tolist()
    with pytest.raises(IndexError):
        EncodedSet.of(rows)[3]


def test_a_limit_that_keeps_all_answers_but_cuts_prompts_loses_something() -> None:
    ids = np.arange(200, dtype=np.int32)
    rows = EncodedSet.of([Row(ids, ids >= 190, i, False) for i in range(10)])
    assert lost_shares(rows)[0] == (64, 0.0)
    assert cut_shares(rows)[0] == (64, pytest.approx(136 / 200))
    assert cut_shares(rows)[-1] == (200, 0.0)
