"""From what the systems said to their numbers: each metric as a sum and a count of every row, for all systems alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from llm_installer.core.text import counted
from llm_installer.evals.items import Item, without_thought
from llm_installer.evals.overlap import overlap
from llm_installer.evals.ranking import ACCURACIES
from llm_installer.evals.result import Column, Interval
from llm_installer.evals.squad import exact, f1
from llm_installer.evals.statistics import Values, wilson
from llm_installer.evals.system import Passed


@dataclass(frozen=True, eq=False)
class Scored:
    """One system's metrics, row by row."""

    passed: Passed
    sums: dict[str, Values]
    """By metric, shape [items]; the metric of some items is the sum of these over the sum of `counts`."""
    counts: dict[str, Values]
    corpus: dict[str, float] = field(default_factory=dict)
    """Metrics of all answers together."""
    notes: tuple[str, ...] = ()

    def of(self, rows: Sequence[int] | slice = slice(None)) -> dict[str, float]:
        """Every metric over some items, or all."""
        found = {
            name: float(self.sums[name][rows].sum() / self.counts[name][rows].sum())
            for name in self.sums
            if self.counts[name][rows].sum()
        }
        if "loss" in found:
            found["perplexity"] = math.exp(min(found["loss"], 700.0))
        return found


def score(passed: Passed, items: Sequence[Item]) -> Scored:
    """The metrics of one system."""
    size = len(items)
    sums, counts = {"loss": passed.losses}, {"loss": passed.tokens}
    corpus, notes = dict[str, float](), tuple[str, ...]()

    def add(name: str, at: Sequence[int], values: Sequence[float]) -> None:
        sums[name], counts[name] = np.zeros(size), np.zeros(size)
        sums[name][list(at)], counts[name][list(at)] = values, 1.0

    if passed.ranked:
        rights = [items[i].right for i in passed.ranked]
        for name in ACCURACIES:
            hits = [float(one.chosen[name] == right) for one, right in zip(passed.ranks, rights, strict=True)]
            add(name, passed.ranked, hits)
    there = [(i, one) for i, one in zip(passed.answered, passed.said.answers, strict=True) if one is not None]
    if there:
        at = [i for i, _ in there]
        texts = [without_thought(one.text) for _, one in there]
        references = [items[i].references for i in at]
        pairs = list(zip(texts, references, strict=True))
        add("exact", at, [exact(said, wanted) for said, wanted in pairs])
        add("f1", at, [f1(said, wanted) for said, wanted in pairs])
        add("ended", at, [float(one.ended) for _, one in there])
        found = overlap(texts, references)
        for name, values in found.rows.items():
            add(name, at, values)
        corpus = {**found.corpus, "speed": passed.said.speed}
        notes = found.notes
    return Scored(passed, sums, counts, corpus, notes)


def column(scored: Scored, intervals: dict[str, Interval]) -> Column:
    """The numbers of one system as they are shown; `intervals` are those of the bootstrap."""
    passed, given = scored.passed, scored.passed.said.given
    ended = sum(one.ended for one in given)
    if given:
        intervals = intervals | {"ended": wilson(ended, len(given))}
    if loss := intervals.get("loss"):
        intervals = intervals | {"perplexity": Interval(*(math.exp(min(x, 700.0)) for x in (loss.low, loss.high)))}
    return Column(
        passed.name,
        passed.adapter,
        scored.of() | scored.corpus,
        intervals,
        answered=len(given),
        cut=len(given) - ended,
        tokens=int(passed.tokens.sum()),
    )


def notes_of(all_scored: Sequence[Scored], answer_limit: int) -> list[str]:
    """What there is to say about the rows of the systems, each thing once."""
    found: list[str] = []
    for one in all_scored:
        passed, given = one.passed, one.passed.said.given
        cut = sum(not answer.ended for answer in given)
        if cut:
            found.append(f"{passed.name}: {counted(cut, 'answer')} of {len(given):,} cut at {answer_limit:,} tokens")
        if passed.refused:
            found.append(f"{passed.name}: {counted(passed.refused, 'row')} cut or left out, since the model or its "
                         "template cannot take them whole")  # fmt: skip
        unasked = len(passed.answered) - len(given)
        if unasked:
            found.append(f"{passed.name}: {counted(unasked, 'question')} not asked, since they leave no room to answer")
        found += one.notes
    if len({tuple(one.passed.tokens) for one in all_scored}) > 1:
        found.append("the systems encode the rows differently, so their losses are per token of their own")
    return list(dict.fromkeys(found))
