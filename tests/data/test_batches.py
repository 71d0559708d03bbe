"""Every row exactly once, in an order that seed and epoch alone decide, within the token budget."""

from __future__ import annotations

import numpy as np
import pytest

from llm_installer.data.batches import collate, epoch_steps, micro_batches, sample
from llm_installer.data.encoding.row import Row


def lengths(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(3, 200, size=count)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 37, 1000])
@pytest.mark.parametrize("per_step", [1, 4, 16])
def test_an_epoch_visits_every_row_once(count: int, per_step: int) -> None:
    steps = epoch_steps(lengths(count), per_step, seed=1, epoch=0)
    assert sorted(np.concatenate(steps).tolist()) == list(range(count))
    sizes = [len(s) for s in steps]
    assert max(sizes) <= per_step
    assert len(steps) == -(-count // per_step) and sum(s < per_step for s in sizes) <= 1


def test_order_depends_on_seed_and_epoch_alone() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return np.concatenate(epoch_steps(lengths(100), 8, seed, epoch)).tolist()

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1) != order(2, 1)


@pytest.mark.parametrize(("tokens", "most_rows"), [(256, 100), (1000, 100), (10_000, 4), (1, 8)])
def test_micro_batches_hold_the_budget(tokens: int, most_rows: int) -> None:
    found = lengths(40)
    parts = micro_batches(found, np.arange(40), tokens, most_rows)
    assert sorted(np.concatenate(parts).tolist()) == list(range(40))
    for part in parts:
        assert len(part) <= most_rows
        assert len(part) == 1 or len(part) * found[part].max() <= tokens


def test_similar_lengths_share_a_step() -> None:
    found = lengths(4000)
    steps = epoch_steps(found, 16, seed=0, epoch=0)
    padded = sum(len(s) * found[s].max() for s in steps)
    assert found.sum() / padded > 0.85, "random batches of 16 reach about 0.5"


def test_what_is_scored_comes_from_masks_not_from_token_ids() -> None:
    """pad == eos == 2: the supervised 2 stays supervised, the padding 2 does not count."""
    a = Row(np.array([5, 6, 7, 2], dtype=np.int32), np.array([False, False, True, True]), 0)
    b = Row(np.array([5, 2], dtype=np.int32), np.array([False, True]), 1)
    batch = collate([a, b], pad=2)
    assert batch.ids.tolist() == [[5, 6, 7, 2], [5, 2, 2, 2]]
    assert batch.positions.tolist() == [1, 2, 4]
    assert batch.targets.tolist() == [7, 2, 2]
    assert batch.tokens == 6


def test_sample_is_fixed_and_ordered() -> None:
    rows = [Row(np.array([i, 0], dtype=np.int32), np.array([False, True]), i) for i in range(50)]
    chosen = [r.source for r in sample(rows, 10, seed=3)]
    assert chosen == [r.source for r in sample(rows, 10, seed=3)] == sorted(set(chosen))
    assert len(chosen) == 10
    assert sample(rows, 100, seed=3) == rows


def test_short_first_goes_up_in_the_first_epoch_only() -> None:
    found = lengths(100)
    first = epoch_steps(found, 8, seed=1, epoch=0, order="short-first")
    assert found[np.concatenate(first)].tolist() == sorted(found.tolist())
    later, usual = (epoch_steps(found, 8, 1, 1, order=order) for order in ("short-first", "random"))
    assert [s.tolist() for s in later] == [s.tolist() for s in usual]


@pytest.mark.parametrize("order", ["random", "short-first"])
def test_given_rows_are_met_as_often_as_they_are_given(order: str) -> None:
    given = np.array([5, 5, 5, 2, 9, 9, 40])
    steps = epoch_steps(lengths(50), 2, seed=1, epoch=0, rows=given, order=order)
    assert sorted(np.concatenate(steps).tolist()) == sorted(given.tolist())
    assert len(steps) == 4
