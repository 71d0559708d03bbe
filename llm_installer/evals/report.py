"""The report of an evaluation, as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from llm_installer.core.markdown import document, plain, table
from llm_installer.core.text import counted
from llm_installer.evals.metrics import METRICS
from llm_installer.evals.result import Column, EvalResult, Flips

SHOWN = 10
"""Rows of each kind of flip; rows.jsonl has all."""
_IN_GROUPS = ("loss", "exact", "f1", "acc")


def report(found: EvalResult, picture: str = "") -> str:
    """Everything that was found, for a reader, with the picture of this file name."""
    return document(
        [
            [f"# Evaluation of {plain(found.model)}"],
            [f"{counted(found.rows, 'row')} of {plain(found.data)}"] if found.rows else [],
            *_differences(found),
            [f"![The numbers with their intervals]({picture})"] if picture else [],
            *_numbers(found),
            *_groups(found),
            *(part for one in found.flips for part in _flips(one)),
            *_tasks(found),
            ["## The first prompt, as the model gets it"] if found.first_prompt else [],
            _indented(found.first_prompt),
            *_notes(found),
        ]
    )


def value(column: Column, metric: str) -> str:
    """A number with its 95% interval, where it has one; a dash where a system has no such number."""
    if metric not in column.scores:
        return "-"
    shown = METRICS[metric].shown(column.scores[metric])
    found = column.intervals.get(metric)
    return f"{shown} ({METRICS[metric].shown(found.low)} to {METRICS[metric].shown(found.high)})" if found else shown


def _differences(found: EvalResult) -> Iterator[Sequence[str]]:
    if found.differences:
        yield ["## Is the difference real?"]
        yield [f"- {plain(str(one))}" for one in found.headlines]
        rest = [one for one in found.differences if one not in found.headlines]
        if rest:
            yield ["In the other metrics:"]
            yield [f"- {plain(str(one))}" for one in rest]
        yield [
            "Intervals are percentiles of 10,000 draws of the prompts with replacement, the same for all systems; "
            "where several pairs are compared, Holm's correction decides what is real. What rows would have shown is "
            "two standard errors of the difference."
        ]


def _numbers(found: EvalResult) -> Iterator[Sequence[str]]:
    if found.columns:
        yield ["## Numbers, with 95% intervals"]
        rows = [[METRICS[name].title, *(value(one, name) for one in found.columns)] for name in found.metrics]
        yield table(["", *(one.name for one in found.columns)], rows)
        yield [f"- {plain(one.name)}: {plain(one.adapter)}" for one in found.columns if one.adapter]


def _groups(found: EvalResult) -> Iterator[Sequence[str]]:
    names = [name for name in _IN_GROUPS if name in found.metrics]
    if found.groups:
        yield ["## By source"]
        head = ["source", "rows", *(f"{METRICS[m].title}: {one.name}" for m in names for one in found.columns)]
        rows = []
        for group in found.groups:
            held = [(group.scores[one.name].get(m), m) for m in names for one in found.columns]
            cells = ["-" if number is None else METRICS[m].shown(number) for number, m in held]
            rows.append([group.name, f"{group.rows:,}", *cells])
        yield table(head, rows)


def _flips(one: Flips) -> Iterator[Sequence[str]]:
    yield [f"## From {plain(one.first)} to {plain(one.second)}"]
    for what, rows in (("turned right", one.gained), ("turned wrong", one.lost)):
        yield [f"{counted(len(rows), 'row')} {what}" + (f", of which these are {SHOWN}:" if len(rows) > SHOWN else "")]
        if rows:
            head = ["row", "prompt", "expected", one.first, one.second]
            yield table(head, [[r.origin, r.prompt, r.expected, r.before, r.after] for r in rows[:SHOWN]])


def _tasks(found: EvalResult) -> Iterator[Sequence[str]]:
    if found.tasks:
        yield ["## Tasks of lm-eval"]
        names = list(dict.fromkeys(name for held in found.tasks.values() for name in held))
        rows = [[n, *(f"{held[n]:.4f}" if n in held else "-" for held in found.tasks.values())] for n in names]
        yield table(["", *found.tasks], rows)


def _indented(text: str) -> list[str]:
    return [f"    {line}" for line in text.split("\n")] if text else []


def _notes(found: EvalResult) -> Iterator[Sequence[str]]:
    notes = [*found.notes, *(_ROUGE if "rouge1" in found.metrics else ()), *(_SQUAD if "f1" in found.metrics else ())]
    if notes:
        yield ["## Notes"]
        yield [f"- {plain(note)}" for note in notes]


_ROUGE = ("ROUGE is rouge-score's, without stemming, F-measure, the best reference of each row; BLEU and chrF are "
          "sacrebleu's with its default settings.",)  # fmt: skip
_SQUAD = ("Exact match and F1 are those of SQuAD 1.1: lower case, no ASCII punctuation, no English articles.",)
