"""Whether a difference is real: a paired bootstrap over prompts, corrected where several pairs are compared.

The bootstrap is Efron and Tibshirani's (An Introduction to the Bootstrap, 1993), the correction Holm's (1979), and the
interval of a share Wilson's (1927).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from llm_installer.evals.result import Interval

Values = npt.NDArray[np.float64]

DRAWS = 10_000
_AT_ONCE = 4_000_000
"""Indices drawn together."""
Z95 = 1.959964
"""Of a normal distribution 95% lies within so many standard deviations."""


@dataclass(frozen=True, eq=False)
class Resampled:
    """One metric of several systems on the same rows: as it is, and on each draw of the prompts with replacement."""

    values: Values
    """Shape [systems]."""
    draws: Values
    """Shape [draws, systems]; row i of all systems is of the same prompts."""
    clusters: int
    """Different prompts."""

    def interval(self, system: int) -> Interval:
        """Of one system's own value."""
        return _percentiles(self.draws[:, system])

    def difference(self, better: int, worse: int, sign: float) -> tuple[float, Interval, float, float]:
        """(how much better, its 95% interval, two-sided p, standard error); `sign` is -1 where less is better."""
        apart = sign * (self.draws[:, better] - self.draws[:, worse])
        by = float(sign * (self.values[better] - self.values[worse]))
        beyond = min(int((apart <= 0).sum()), int((apart >= 0).sum()))
        p = min(1.0, 2.0 * (beyond + 1) / (len(apart) + 1))
        return by, _percentiles(apart), p, float(apart.std(ddof=1))


def resample(sums: Values, counts: Values, clusters: npt.NDArray[np.int64], seed: int, draws: int = DRAWS) -> Resampled:
    """Resample whole prompts: the value of a system is the sum of its `sums` over the sum of its `counts`.

    Both have shape [rows, systems]; `clusters` [rows] says which rows have one prompt and so go together. The same
    prompts are drawn for all systems, and the same ones each time with the same seed.
    """
    _, of = np.unique(clusters, return_inverse=True)
    number = int(of.max()) + 1
    both = np.concatenate([sums, counts], axis=1)
    table = np.stack([np.bincount(of, weights=column, minlength=number) for column in both.T], axis=1)
    systems = sums.shape[1]
    random = np.random.default_rng(seed)
    parts: list[Values] = []
    left = draws
    while left:
        some = min(left, max(1, _AT_ONCE // number))
        drawn = random.integers(0, number, (some, number)) + np.arange(some)[:, None] * number
        weights = np.bincount(drawn.ravel(), minlength=some * number).reshape(some, number)
        parts.append(weights.astype(np.float64) @ table)
        left -= some
    found = np.concatenate(parts)
    whole = table.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return Resampled(whole[:systems] / whole[systems:], found[:, :systems] / found[:, systems:], number)


def holm(ps: Sequence[float]) -> list[float]:
    """Each p corrected for there being several, in their order: the family has a false alarm in at most 5 % where all
    that stay at or below 0.05 are believed."""
    adjusted, worst = [0.0] * len(ps), 0.0
    for rank, i in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        worst = max(worst, min(1.0, (len(ps) - rank) * ps[i]))
        adjusted[i] = worst
    return adjusted


def wilson(hits: int, number: int) -> Interval:
    """The 95% interval of a share."""
    if not number:
        return Interval(0.0, 1.0)
    share, z2 = hits / number, Z95**2
    middle = (share + z2 / (2 * number)) / (1 + z2 / number)
    half = Z95 * math.sqrt(share * (1 - share) / number + z2 / (4 * number**2)) / (1 + z2 / number)
    return Interval(max(0.0, middle - half), min(1.0, middle + half))


def _percentiles(values: Values) -> Interval:
    low, high = np.percentile(values, (2.5, 97.5))
    return Interval(float(low), float(high))
