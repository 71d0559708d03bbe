"""Every pair of systems compared in every metric, and the rows that turned right or wrong from one to the other."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np
import numpy.typing as npt

from llm_installer.core.text import shortened
from llm_installer.evals.items import Item
from llm_installer.evals.metrics import METRICS
from llm_installer.evals.result import Difference, Flip, Flips, Interval
from llm_installer.evals.scores import Scored
from llm_installer.evals.statistics import Resampled, holm, resample

Clusters = npt.NDArray[np.int64]


def clusters_of(items: Sequence[Item]) -> Clusters:
    """A number for each item, the same for those that ask the same: they are not independent."""
    known: dict[tuple[object, ...], int] = {}
    return np.array([known.setdefault((i.example.prompt, i.example.images), len(known)) for i in items], dtype=np.int64)


def compare(
    scored: Sequence[Scored], clusters: Clusters, seed: int
) -> tuple[list[Difference], list[dict[str, Interval]]]:
    """Every pair in every metric that both have, and the interval of each system's own numbers."""
    differences: list[Difference] = []
    intervals: list[dict[str, Interval]] = [{} for _ in scored]
    for name in METRICS:
        having = [i for i, one in enumerate(scored) if name in one.sums]
        if not having or name == "ended":
            continue
        counts = np.stack([scored[i].counts[name] for i in having], axis=1)
        sums = np.stack([scored[i].sums[name] for i in having], axis=1)
        common = (counts > 0).all(axis=1)
        if common.sum() < 2:
            continue
        drawn = resample(sums[common], counts[common], clusters[common], seed)
        for place, i in enumerate(having):
            intervals[i][name] = drawn.interval(place)
        names = [scored[i].passed.name for i in having]
        differences += _pairs(name, drawn, names, int(common.sum()))
    return differences, intervals


def _pairs(metric: str, drawn: Resampled, names: Sequence[str], rows: int) -> list[Difference]:
    """Each pair of systems in one metric; the p of several are corrected together."""
    sign = -1.0 if METRICS[metric].lower else 1.0
    found: list[Difference] = []
    for one, other in combinations(range(len(names)), 2):
        better, worse = (other, one) if sign * (drawn.values[other] - drawn.values[one]) >= 0 else (one, other)
        by, interval, p, error = drawn.difference(better, worse, sign)
        found.append(
            Difference(metric, names[better], names[worse], by, interval, p, p, drawn.clusters, rows, 2 * error)
        )
    adjusted = holm([one.p for one in found])
    return [replace(one, adjusted=p, compared=len(found)) for one, p in zip(found, adjusted, strict=True)]


def flips(scored: Sequence[Scored], items: Sequence[Item]) -> list[Flips]:
    """For each pair, the rows whose answer or choice turned right or wrong."""
    found: list[Flips] = []
    rights = [_rights(one) for one in scored]
    for one, other in combinations(range(len(scored)), 2):
        first, second = scored[one], scored[other]
        gained: list[Flip] = []
        lost: list[Flip] = []
        for at in sorted(rights[one].keys() & rights[other].keys()):
            if rights[one][at] != rights[other][at]:
                flip = _flip(items[at], said_of(first, items, at), said_of(second, items, at))
                (gained if rights[other][at] else lost).append(flip)
        if rights[one]:
            found.append(Flips(first.passed.name, second.passed.name, tuple(gained), tuple(lost)))
    return found


def _rights(one: Scored) -> dict[int, bool]:
    """Whether each item that was answered or ranked is right."""
    found: dict[int, bool] = {}
    for name in ("exact", "acc"):
        if name in one.sums:
            found |= {int(at): bool(one.sums[name][at]) for at in np.flatnonzero(one.counts[name])}
    return found


def said_of(one: Scored, items: Sequence[Item], at: int) -> str:
    """What a system answered or chose for an item; empty where it did neither."""
    passed = one.passed
    if items[at].choices:
        return items[at].choices[passed.ranks[bisect_left(passed.ranked, at)].chosen["acc"]]
    place = bisect_left(passed.answered, at)
    if place < len(passed.answered) and passed.answered[place] == at:
        answer = passed.said.answers[place]
        return answer.text if answer else ""
    return ""


def _flip(item: Item, before: str, after: str) -> Flip:
    asked = [turn.content for turn in item.example.messages if turn.role == "user"]
    expected = item.references[0] if item.references else ""
    return Flip(str(item.example.origin), shortened(asked[-1] if asked else ""), expected, before, after)
