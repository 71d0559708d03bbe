"""Packing loses no row, cuts none, fills well, and scores none across a border."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_installer.data.batches import collate_packed, pack
from llm_installer.data.encoding.row import Row
from tests.generated import many


@settings(max_examples=many(150), deadline=None)
@given(
    st.lists(st.integers(1, 300), min_size=1, max_size=60),
    st.integers(1, 512),
    st.integers(1, 80),
    st.randoms(use_true_random=False),
)
def test_every_row_once_none_over_and_never_worse_than_first_fit_may_be(
    sizes: list[int], tokens: int, most: int, random
) -> None:
    lengths = np.array(sizes)
    rows = np.array(random.sample(range(len(sizes)), random.randint(1, len(sizes))))
    parts = pack(lengths, rows, tokens, most)
    assert sorted(np.concatenate(parts)) == sorted(rows)
    assert all(lengths[p].sum() <= tokens or len(p) == 1 for p in parts)
    assert all(len(p) <= most for p in parts)
    assert [p.tolist() for p in parts] == [p.tolist() for p in pack(lengths, rows, tokens, most)]
    if most >= len(rows):
        halves = sorted(min(int(lengths[p].sum()), tokens) for p in parts)
        assert len(parts) < 2 or halves[0] + halves[1] > tokens, "two parts would fit into one"


def test_realistic_lengths_leave_little_room() -> None:
    lengths = np.random.default_rng(0).lognormal(5.1, 0.6, 2000).astype(np.int64).clip(8, 1024)
    parts = pack(lengths, np.arange(2000), 2048, 2000)
    assert lengths.sum() / (len(parts) * 2048) >= 0.97


def test_no_position_looks_across_a_border() -> None:
    first, second = (Row(np.array(ids), np.ones(len(ids), dtype=np.bool_), 0) for ids in ([5, 6, 7], [8, 9]))
    batch = collate_packed([first, second])
    assert batch.ids.tolist() == [[5, 6, 7, 8, 9]]
    assert batch.extra["position_ids"].tolist() == [[0, 1, 2, 0, 1]]
    assert (batch.positions.tolist(), batch.targets.tolist()) == ([0, 1, 3], [6, 7, 9])
    assert (batch.documents, batch.tokens) == ((3, 2), 5)
