"""The report of a run: pure text from what was measured, as Markdown and as a few lines for the console."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llm_installer.core.state import Adjustment, Result, RunState
from llm_installer.planning.plan import Plan, plan_rows

if TYPE_CHECKING:
    from llm_installer.inference.before_after import Comparison
    from llm_installer.training.evaluation import Measured, Pair, RowLoss
    from llm_installer.training.reporters import Sample

WORST, BEST, ON_CONSOLE = 20, 5, 3
KNOWN_BY_HEART = 0.1
"""Loss per token below which a row is repeated rather than answered: each token has a chance above 90 %."""
LONGEST = 400
"""Characters of an answer that are quoted."""
FORGETTING = ((0.1, "no forgetting"), (0.5, "forgets a little"), (math.inf, "forgets"))
"""Largest rise of the loss on general sentences, and what it is called. 0.1 is 10 % in perplexity, 0.5 is 65 %."""


@dataclass(frozen=True)
class NamedRow:
    """A row's loss, and where the row is."""

    origin: str
    loss: RowLoss


@dataclass(frozen=True)
class Report:
    """Everything that is told about a run after it."""

    model: str
    run: str
    data: str
    plan: Plan
    result: Result
    measured: Measured
    rows: Sequence[NamedRow]
    """In the order of `measured.rows`."""
    answers: Sequence[Comparison]
    """Empty where nobody was asked."""
    held_out: bool
    """Whether the questions of `answers` are held out."""
    samples: Sequence[tuple[int, Sequence[Sample]]]
    """(step, answers to the user's own prompts) at the first and the best measurement; empty without prompts."""
    lora: str
    """What ./lora is now, as a sentence."""
    talk: str
    """The command that talks to the tuned model."""
    picture: str
    """The file name of the curves; empty where there is none."""
    changes: Sequence[Adjustment] = ()
    """What a controller changed in the course of the run."""


def forgetting(change: float) -> str:
    """The verdict on what happened to the loss on general text."""
    if not math.isfinite(change):
        return "forgets: the loss is no finite number"
    name = next(name for limit, name in FORGETTING if change <= limit)
    return f"{name}: {round(change, 2) + 0.0:+.2f}"


def render(report: Report) -> str:
    """report.md."""
    result = report.result
    parts = [
        [f"# {_plain(report.model)}: run {_plain(report.run)}"],
        [f"Trained on {_plain(report.data)} for {result.steps:,} steps. Stopped because {_plain(result.stop_reason)}."],
        [report.lora, "", "Talk to it:", "", f"    {report.talk}"],
        [f"![Loss over the run]({report.picture})"] if report.picture else [],
        _card(report),
        _answers(report),
        _samples(report),
        _rows(report),
        ["## Plan", "", *_table(("", "value", "why"), plan_rows(report.plan))],
        _changes(report.changes),
    ]
    return "\n\n".join("\n".join(lines) for lines in parts if lines) + "\n"


def render_broken_off(
    *, model: str, run: str, data: str, plan: Plan, state: RunState, by: str, found: str, command: str, picture: str
) -> str:
    """report.md of a run that a signal (`by`) ended: where it stood, and the `command` that goes on with it."""
    of = f" of {plan.total_steps:,}" if plan.total_steps else ""
    losses = [
        (f"{e.step:,}", f"{e.train_loss:.4f}", "" if e.validation_loss is None else f"{e.validation_loss:.4f}")
        for e in state.history
    ]
    parts = [
        [f"# {_plain(model)}: run {_plain(run)}"],
        [f"Training on {_plain(data)} was broken off by {by} at step {state.step:,}{of}. Nothing is lost; go on with:"],
        [f"    {command}"],
        [found],
        [f"![Loss over the run]({picture})"] if picture else [],
        ["## Loss so far", "", *_table(("step", "training rows", "held-out rows"), losses)] if losses else [],
        ["## Plan", "", *_table(("", "value", "why"), plan_rows(plan))],
        _changes(state.adjustments),
    ]
    return "\n\n".join("\n".join(lines) for lines in parts if lines) + "\n"


def in_short(report: Report) -> list[str]:
    """The same for the console: what was forgotten, which rows to look at, where the rest is."""
    measured = report.measured
    lines = [f"General text ({measured.general.rows} sentences): {forgetting(measured.general.change)}."]
    worst = ", ".join(f"{row.origin} ({row.loss.tuned:.1f})" for row in report.rows[:ON_CONSOLE])
    lines.append(f"Highest loss, likely wrong or hard: {worst}.")
    if heart := by_heart(report.rows):
        lines.append(f"Known by heart: {len(heart)} of {len(report.rows)} rows that were looked at.")
    return lines


def by_heart(rows: Sequence[NamedRow]) -> list[NamedRow]:
    """The rows that the tuned model repeats."""
    return [row for row in rows if row.loss.tuned <= KNOWN_BY_HEART]


def _card(report: Report) -> list[str]:
    measured = report.measured
    pairs = (
        ("loss on {} training rows", measured.training),
        ("loss on {} held-out rows", measured.held_out),
        ("loss on {} sentences of general text", measured.general),
    )
    rows = [(name.format(pair.rows), *_losses(pair)) for name, pair in pairs if pair is not None]
    if report.answers:
        sides = ([a.base for a in report.answers], [a.tuned for a in report.answers])
        base, tuned = (sum(answer.ended for answer in side) / len(side) for side in sides)
        ended = f"answers that end by themselves ({len(report.answers)} asked)"
        rows.append((ended, f"{base:.0%}", f"{tuned:.0%}", "", ""))
    return [
        "## Before and after",
        "",
        *_table(("", "base", "tuned", "change", "perplexity"), rows),
        "",
        f"Forgetting meter: **{forgetting(measured.general.change)}**.",
    ]


def _changes(changes: Sequence[Adjustment]) -> list[str]:
    if not changes:
        return []
    return ["## What was changed on the way", ""] + [f"- Step {c.step:,}: {c.why}." for c in changes]


def _losses(pair: Pair) -> tuple[str, str, str, str]:
    change = f"{round(pair.change, 3) + 0.0:+.3f}"
    return f"{pair.base:.4f}", f"{pair.tuned:.4f}", change, f"{_exp(pair.base)} -> {_exp(pair.tuned)}"


def _answers(report: Report) -> list[str]:
    if not report.answers:
        return []
    lines = ["## Answers side by side", ""]
    if not report.held_out:
        lines += ["These are training rows: nothing is held out.", ""]
    for item in report.answers:
        said = [("expected", item.expected)] if item.expected else []
        said += [("base", item.base.text), ("tuned", item.tuned.text)]
        lines += [*_table(("prompt", item.prompt), said), ""]
    return lines[:-1]


def _samples(report: Report) -> list[str]:
    if not report.samples:
        return []
    steps = ["prompt", *(f"step {step:,}" for step, _ in report.samples)]
    prompts = [sample.prompt for sample in report.samples[0][1]]
    rows = [(prompt, *(said[i].answer for _, said in report.samples)) for i, prompt in enumerate(prompts)]
    return ["## Your own prompts", "", *_table(steps, rows), "", "All measurements are in samples.jsonl."]


def _rows(report: Report) -> list[str]:
    known = by_heart(report.rows)
    lowest = list(reversed(report.rows))[:BEST]
    worst = report.rows[: min(WORST, max(1, len(report.rows) - len(lowest)))]
    head = ("row", "loss", "of the base model", "side")
    note = f"{len(known)} of them have a loss of at most {KNOWN_BY_HEART:g}: these are known by heart."
    return [
        "## Rows with the highest loss: likely wrong or hard",
        "",
        *_table(head, [_row(row) for row in worst]),
        "",
        f"## Rows with the lowest loss: {'known by heart' if known else 'the easiest'}",
        "",
        *_table(head, [_row(row) for row in lowest]),
        "",
        f"{len(report.rows)} rows of both sides were looked at. {note if known else 'None of them is known by heart.'}",
    ]


def _row(row: NamedRow) -> tuple[str, str, str, str]:
    side = "held out" if row.loss.held_out else "training"
    return row.origin, f"{row.loss.tuned:.3f}", f"{row.loss.base:.3f}", side


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    shown = [[cell if row is lines[1] else _plain(cell) or " " for cell in row] for row in lines]
    return ["| " + " | ".join(row) + " |" for row in shown]


def _plain(text: str) -> str:
    """The text on one line, with nothing in it that Markdown would take as its own."""
    flat = " ".join(text.split())
    flat = flat if len(flat) <= LONGEST else flat[: LONGEST - 3] + "..."
    return re.sub(r"([\\`*\[\]<|]|(?<!\w)_|_(?!\w))", r"\\\1", flat)


def _exp(loss: float) -> str:
    perplexity = math.exp(min(loss, 50))
    return f"{perplexity:.3g}" if perplexity < 1000 else f"{perplexity:,.0f}"
