"""Fixed shapes of micro-batches: the ends are the best there are, and every micro-batch fits into its own."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_installer.data.batches import epoch_steps, pack
from llm_installer.data.buckets import GRAIN, MOST, Bucket, Need, best_ends, choose_buckets, few_ends, fitting, padded

SIZES = st.lists(st.integers(1, 600), min_size=1, max_size=20)


@given(SIZES, st.integers(1, 4))
def test_no_other_ends_pad_less(sizes: list[int], count: int) -> None:
    found = best_ends(sizes, count)
    values = sorted({-(-size // GRAIN) * GRAIN for size in sizes})
    others = [[*some, values[-1]] for n in range(count) for some in combinations(values[:-1], n)]
    assert padded(sizes, found) == min(padded(sizes, ends) for ends in others)
    assert len(found) <= count and all(end % GRAIN == 0 for end in found)


NEED = st.builds(
    lambda rows, length, part, documents: Need(rows, length, max(1, int(length * max(1, rows) * part)), 0)
    if rows
    else Need(0, length, max(1, int(length * part)), min(documents, length)),
    st.integers(0, 3), st.integers(1, 3000), st.floats(0, 1), st.integers(1, 40),
)  # fmt: skip


@given(st.lists(NEED, min_size=1, max_size=30), st.integers(1, 700))
def test_every_micro_batch_has_a_bucket(needs: list[Need], longest: int) -> None:
    buckets = choose_buckets(needs, longest)
    for need in needs:
        bucket = fitting(buckets, need)
        assert bucket is not None
        if not bucket.rows:
            padding = bucket.padding(need.length)
            assert need.length + sum(padding) == bucket.length
            assert need.documents + len(padding) <= bucket.documents
            assert all(0 < length <= bucket.longest for length in padding)
    assert fitting(buckets, Need(0, 9000, 1, 1)) is None
    assert fitting(buckets, Need(9, 1, 1)) is None


def test_what_needs_more_than_any_bucket_has_none() -> None:
    bucket = Bucket(0, 256, 128, 8, 128)
    assert bucket.holds(Need(0, 250, 128, 7))
    assert not bucket.holds(Need(0, 250, 129, 7)), "more is supervised"
    assert not bucket.holds(Need(0, 250, 128, 8)), "with the padding there are nine documents"
    assert not bucket.holds(Need(1, 250, 100)), "rows are no documents"


@pytest.mark.parametrize(("order", "most"), [("shuffled", 0.05), ("random", 0.2)])
def test_rows_taken_at_random_need_few_buckets(order: str, most: float) -> None:
    """Lengths like those of short instructions, 16 rows in a step."""
    lengths = np.clip(np.random.default_rng(1).lognormal(5.1, 0.55, 2000), 20, 1024).astype(np.int64)
    sizes = []
    for epoch in range(2):
        for step in epoch_steps(lengths, 16, 3, epoch, order=order):
            sizes += [int(lengths[part].sum()) for part in pack(lengths, step, 16384, 16)]
    ends = few_ends(sizes)
    assert len(ends) <= MOST
    assert padded(sizes, ends) < most
    assert order == "shuffled" or padded(sizes, ends) > 0.05, "rows of similar length together pad more"
