"""Fixed shapes for micro-batches: few of them, so that each is met often, with little padding.

What is computed from a fixed shape can be recorded once and played back. Packed rows are padded by documents that are
not supervised, rows by longer ones; how many documents there are, how long the longest is and how many tokens are
supervised are fixed as well.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from llm_installer.data.batches import Batch

GRAIN = 32
"""Sizes are multiples of this: kernels are compiled once more for a size that 16 does not divide."""
DOCUMENTS = (8, 16, 32, 64, 128, 256, 512, 1024)
"""Numbers of documents, those that pad and empty ones included."""
MOST = 7
"""Most buckets of each kind. With rows packed at random they keep padding under LITTLE: 4.9 % of 999 real rows, 16 in a
step, where rows of similar length together have 12 %."""
LITTLE = 0.05
"""Padding, as a share of the tokens, below which no more buckets are made."""


@dataclass(frozen=True)
class Need:
    """What a micro-batch holds."""

    rows: int
    """Rows that are padded; 0 where they are packed."""
    length: int
    """Tokens of each padded row, or of the packed sequence."""
    supervised: int
    documents: int = 0

    @classmethod
    def of(cls, batch: Batch) -> Need:
        """That of a batch."""
        rows, length = (0, batch.ids.size) if batch.documents else batch.ids.shape
        return cls(int(rows), int(length), len(batch.targets), len(batch.documents))


@dataclass(frozen=True)
class Bucket:
    """A fixed shape of micro-batches."""

    rows: int
    """Rows that are padded; 0 where documents are packed into one."""
    length: int
    """Tokens of each padded row, or of the packed sequence."""
    supervised: int
    """Positions that are scored, unused ones included."""
    documents: int = 0
    longest: int = 0
    """Tokens that no document exceeds, those that pad included."""

    @property
    def tokens(self) -> int:
        """All of them, padding included."""
        return max(1, self.rows) * self.length

    def padding(self, used: int) -> list[int]:
        """Lengths of the documents that follow `used` packed tokens: none above the longest, as attention to a single
        one would cost its square."""
        whole, rest = divmod(self.length - used, self.longest)
        return [self.longest] * whole + [rest] * (rest > 0)

    def holds(self, need: Need) -> bool:
        """Whether a micro-batch fits into this shape."""
        if (need.rows > 0) != (self.rows > 0) or need.length > self.length or need.supervised > self.supervised:
            return False
        if self.rows:
            return need.rows <= self.rows
        return need.documents + len(self.padding(need.length)) <= self.documents


def choose_buckets(needs: Sequence[Need], longest: int) -> list[Bucket]:
    """Shapes for micro-batches such as these, the smallest first; `longest` is the longest row of all data."""
    found: list[Bucket] = []
    for rows in sorted({need.rows for need in needs}):
        alike = sorted((need for need in needs if need.rows == rows), key=lambda need: need.length)
        ends, start = few_ends([need.length for need in alike]), 0
        lengths = [need.length for need in alike]
        for end in ends:
            stop = bisect_left(lengths, end + 1)
            found.append(_bucket(alike[start:stop], rows, end, min(end, _up(longest))))
            start = stop
    return sorted(found, key=lambda bucket: (bucket.tokens, bucket.supervised))


def fitting(buckets: Sequence[Bucket], need: Need) -> Bucket | None:
    """The first of the buckets, the smallest first, that holds a micro-batch; None where none does."""
    return next((bucket for bucket in buckets if bucket.holds(need)), None)


def few_ends(sizes: Sequence[int]) -> list[int]:
    """The fewest right ends, at most MOST, with which sizes are padded by less than LITTLE; or the best MOST."""
    for count in range(1, MOST + 1):
        ends = best_ends(sizes, count)
        if padded(sizes, ends) < LITTLE:
            break
    return ends


def padded(sizes: Sequence[int], ends: Sequence[int]) -> float:
    """Padding as a share of what is computed, where each size is padded to the next of the ascending `ends`."""
    computed = sum(ends[bisect_left(ends, size)] for size in sizes)
    return 1 - sum(sizes) / computed


def best_ends(sizes: Sequence[int], count: int) -> list[int]:
    """The at most `count` multiples of GRAIN, ascending, to which sizes are padded with the least padding in all.

    Exact: the best ends for the sizes up to some value are one last end, and the best of one end fewer below it.
    """
    tally = Counter(_up(size) for size in sizes)
    values = sorted(tally)
    sums = [0]
    for value in values:
        sums.append(sums[-1] + tally[value])
    # best[i]: (tokens computed for the first i values, the ends that do it)
    best: list[tuple[int, tuple[int, ...]]] = [(0, ())]
    best += [(sums[i] * values[i - 1], (values[i - 1],)) for i in range(1, len(sums))]
    for _ in range(count - 1):
        best = [best[0]] + [
            min((best[j][0] + (sums[i] - sums[j]) * values[i - 1], (*best[j][1], values[i - 1])) for j in range(i))
            for i in range(1, len(sums))
        ]
    return list(best[-1][1])


def _up(number: int) -> int:
    return -(-max(1, number) // GRAIN) * GRAIN


def _bucket(needs: Sequence[Need], rows: int, end: int, longest: int) -> Bucket:
    """One that holds all of these."""
    supervised = _up(max(need.supervised for need in needs))
    if rows:
        return Bucket(rows, end, supervised)
    bare = Bucket(0, end, supervised, 0, longest)
    most = max(need.documents + len(bare.padding(need.length)) for need in needs)
    documents = next((number for number in DOCUMENTS if number >= most), _up(most))
    return Bucket(0, end, supervised, documents, longest)
