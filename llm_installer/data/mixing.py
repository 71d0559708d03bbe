"""How often the rows of each file are trained on: from names to weights, and from weights to the rows of an epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from llm_installer.core.arrays import Indices
from llm_installer.core.errors import DataError, UsageError
from llm_installer.data.reading.named import named_files as named_files


@dataclass(frozen=True)
class Mix:
    """The files that the training rows come from, and the share of an epoch that each makes up."""

    names: tuple[str, ...]
    shares: tuple[float, ...]
    """The shares asked for; they add up to 1."""
    rows: tuple[Indices, ...]
    """The indices of the rows of each file."""
    counts: tuple[int, ...]
    """Rows of each file in an epoch."""

    @property
    def size(self) -> int:
        """Rows in an epoch."""
        return sum(self.counts)

    def epoch(self, seed: int, epoch: int) -> Indices:
        """The rows of an epoch, file after file. No row of a file comes again before all of them have been used, even
        from one epoch to the next."""
        files = zip(self.rows, self.counts, strict=True)
        drawn = [_drawn(rows, count, (seed, i), epoch) for i, (rows, count) in enumerate(files)]
        return np.concatenate(drawn)

    def __str__(self) -> str:
        return ", ".join(f"{name} {share * 100:.3g} %" for name, share in zip(self.names, self.shares, strict=True))


def parse_weights(given: Mapping[str, str]) -> dict[str, float]:
    """Weights by name. Raises UsageError for anything but a number above 0."""
    weights: dict[str, float] = {}
    for name, value in given.items():
        try:
            weights[name] = float(value)
        except ValueError:
            weights[name] = math.nan
        if not 0 < weights[name] < math.inf:
            raise UsageError(
                f"--mix {name}={value}: a weight is a number above 0; to use no rows of a file, leave that file out"
            )
    return weights


def make_mix(weights: Mapping[str, float], files: Sequence[str], codes: Indices) -> Mix:
    """The mix of the training rows; row i comes from `files[codes[i]]`. A file without a weight has weight 1.

    Raises DataError when a file with a weight has no row.
    """
    present = [(files[code], code) for code in np.unique(codes).tolist()]
    names = [name for name, _ in sorted(present)]
    if missing := [name for name in weights if name not in names]:
        raise DataError(
            f"--mix: {missing[0]} has no row to train on; remove it from --mix, or use fewer rows for validation"
        )
    wanted = np.array([weights.get(name, 1.0) for name in names])
    shares = wanted / wanted.sum()
    counts = _counts(shares * len(codes))
    rows = tuple(np.flatnonzero(codes == code) for _, code in sorted(present))
    return Mix(tuple(names), tuple(shares.tolist()), rows, counts)


def _counts(exact: np.ndarray[tuple[int], np.dtype[np.float64]]) -> tuple[int, ...]:
    """Whole numbers with the same sum, by largest remainder; none is 0, so that no file silently disappears."""
    counts = np.floor(exact).astype(np.int64)
    missing = round(exact.sum()) - int(counts.sum())
    counts[np.argsort(counts - exact, kind="stable")[:missing]] += 1
    return tuple(np.maximum(counts, 1).tolist())


def _drawn(rows: Indices, count: int, seed: tuple[int, int], epoch: int) -> Indices:
    """Part number `epoch`, `count` rows long, of an endless series of shuffles of `rows`.

    Shuffles that lie completely within the part are not made: the epoch is shuffled afterwards anyway.
    """

    def shuffled(cycle: int) -> Indices:
        return rows[np.random.default_rng((*seed, cycle)).permutation(len(rows))]

    (first, start), (last, end) = divmod(epoch * count, len(rows)), divmod((epoch + 1) * count, len(rows))
    if first == last:
        return shuffled(first)[start:end]
    return np.concatenate([shuffled(first)[start:], np.tile(rows, last - first - 1), shuffled(last)[:end]])
