"""The report of a run: pure text from what was evaluated, as Markdown and as a few lines for the console."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llm_installer.core.changes import Changes, Pair, RowLoss
from llm_installer.core.markdown import document, plain, table
from llm_installer.core.run.samples import Sample
from llm_installer.core.state import Adjustment, Result
from llm_installer.core.text import counted, perplexity
from llm_installer.planning.modes import MODES
from llm_installer.planning.plan import Plan
from llm_installer.planning.table import plan_rows
from llm_installer.runs.forgetting import found_forgotten, verdict

if TYPE_CHECKING:  # at run time it would bring torch
    from llm_installer.inference.before_after import Comparison

COMPARED = "## Before and after"
"""The heading of what was found out by comparing base and tuned model."""
WORST, BEST, ON_CONSOLE = 20, 5, 3
APART = 2.0
"""How far above the median the highest loss must be to be worth a word, as a multiple; and at least 1 nat."""
MEMORISED = 0.1
"""Loss per token up to which a row is repeated rather than answered: each token has a probability above 90 %."""


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
    changes: Changes
    rows: Sequence[NamedRow]
    """In the order of `changes.rows`."""
    answers: Sequence[Comparison]
    """Empty where no question was asked."""
    validation: bool
    """Whether the questions of `answers` are from validation examples."""
    samples: Sequence[tuple[int, Sequence[Sample]]]
    """(step, answers to the user's own prompts) at the first and the best evaluation; empty without prompts."""
    lora: str
    """What ./lora is now, as a sentence."""
    talk: str
    """The command that talks to the tuned model."""
    picture: str
    """The file name of the curves; empty where there is none."""
    adjustments: Sequence[Adjustment] = ()
    """What the controller changed in the course of the run."""
    longer: str = ""
    """What a longer run would bring, as a sentence; empty where it would likely bring nothing."""
    took: str = ""
    """How long the run was predicted to take and how long it took, as a sentence."""


def render(report: Report) -> str:
    """report.md."""
    result = report.result
    steps = counted(result.steps, "step")
    return document(
        [
            [f"# {plain(report.model)}: run {plain(report.run)}"],
            [f"Trained on {plain(report.data)} for {steps}. Stopped because {plain(result.stop_reason)}."],
            [report.longer] if report.longer else [],
            [report.took] if report.took else [],
            [report.lora, "", "Talk to it:", "", f"    {report.talk}"],
            [f"![Loss over the run]({report.picture})"] if report.picture else [],
            _before_and_after(report),
            _answers(report),
            _samples(report),
            _rows(report),
            plan_part(report.plan),
            adjustments_part(report.adjustments),
        ]
    )


def in_short(report: Report) -> list[str]:
    """The same for the console: what was forgotten, and which rows to look at."""
    lines = [*on_published(report.changes), *found_forgotten(report.changes), f"Forgetting: {_forgetting(report)}."]
    worst = ", ".join(f"{row.origin} ({row.loss.tuned:.1f})" for row in report.rows[:ON_CONSOLE])
    lines.append(f"Highest loss{', likely wrong or hard' if stands_out(report.rows) else ''}: {worst}.")
    if known := memorised(report.rows):
        lines.append(f"Memorised: {len(known)} of the {counted(len(report.rows), 'row')} evaluated one by one.")
    return [*lines, report.longer] if report.longer else lines


def stands_out(rows: Sequence[NamedRow]) -> bool:
    """Whether the highest losses are far above the usual one, so that those rows are worth a look."""
    losses = sorted(row.loss.tuned for row in rows)
    usual = losses[len(losses) // 2] if losses else 0.0
    return bool(losses) and losses[-1] >= max(APART * usual, usual + 1)


def memorised(rows: Sequence[NamedRow]) -> list[NamedRow]:
    """The rows that the tuned model repeats."""
    return [row for row in rows if row.loss.tuned <= MEMORISED]


def plan_part(plan: Plan) -> list[str]:
    """Every decision with its reason."""
    return ["## Plan", "", *table(("", "value", "why"), [(row.name, row.value, row.why) for row in plan_rows(plan)])]


def adjustments_part(adjustments: Sequence[Adjustment]) -> list[str]:
    """What the controller changed, and when."""
    if not adjustments:
        return []
    return ["## Adjusted during the run", "", *(f"- Step {a.step:,}: {a.why}." for a in adjustments)]


def _before_and_after(report: Report) -> list[str]:
    changes = report.changes
    pairs = (
        ("loss on {} training rows", changes.training),
        ("loss on {} validation rows", changes.validation),
        ("loss on {} of them, with the base as published", changes.unrounded),
        ("loss on {} sentences of general text", changes.general),
        ("loss on {} samples of text that the base wrote", changes.own),
    )
    rows = [(name.format(pair.rows), *_losses(pair)) for name, pair in pairs if pair is not None]
    if report.answers:
        sides = ([a.base for a in report.answers], [a.tuned for a in report.answers])
        base, tuned = (sum(answer.ended for answer in side) / len(side) for side in sides)
        ended = f"answers that end by themselves ({len(report.answers)} asked)"
        rows.append((ended, f"{base:.0%}", f"{tuned:.0%}", "", ""))
    return [
        COMPARED,
        "",
        *table(("", "base", "tuned", "change", "perplexity"), rows),
        "",
        *(f"- {sentence}" for sentence in (*on_published(changes), *found_forgotten(changes))),
        "",
        f"Forgetting: {_forgetting(report)}.",
    ]


def on_published(changes: Changes) -> list[str]:
    """What a run on a base in float8 is worth on the base that it will be used on; nothing for other runs."""
    found = changes.unrounded
    if found is None:
        return []
    rounded = changes.validation or changes.training
    return [
        f"The base was held in float8. On the base as published, which chat and merge use, the loss of the tuned model "
        f"is {found.tuned:.4f}, in place of {rounded.tuned:.4f}."
    ]


def _forgetting(report: Report) -> str:
    return verdict(report.changes, MODES[report.plan.mode].memorises)


def _losses(pair: Pair) -> tuple[str, str, str, str]:
    change = f"{round(pair.change, 3) + 0.0:+.3f}"
    return f"{pair.base:.4f}", f"{pair.tuned:.4f}", change, f"{perplexity(pair.base)} -> {perplexity(pair.tuned)}"


def _answers(report: Report) -> list[str]:
    if not report.answers:
        return []
    lines = ["## Answers side by side", ""]
    if not report.validation:
        lines += ["The questions are from training rows, for there are no validation rows.", ""]
    for item in report.answers:
        said = [("expected", item.expected)] if item.expected else []
        said += [("base", item.base.text), ("tuned", item.tuned.text)]
        lines += [*table(("prompt", item.prompt), said), ""]
    return lines[:-1]


def _samples(report: Report) -> list[str]:
    if not report.samples:
        return []
    steps = ["prompt", *(f"step {step:,}" for step, _ in report.samples)]
    prompts = [sample.prompt for sample in report.samples[0][1]]
    rows = [(prompt, *(said[i].answer for _, said in report.samples)) for i, prompt in enumerate(prompts)]
    return ["## Your own prompts", "", *table(steps, rows), "", "The answers of all evaluations are in samples.jsonl."]


def _rows(report: Report) -> list[str]:
    known = memorised(report.rows)
    lowest = list(reversed(report.rows))[:BEST]
    worst = report.rows[: min(WORST, max(1, len(report.rows) - len(lowest)))]
    head = ("row", "loss", "base loss", "side")
    evaluated = f"Evaluated one by one: {counted(len(report.rows), 'row')}, training and validation."
    note = f"{counted(len(known), 'row')} with a loss of at most {MEMORISED:g}: memorised."
    return [
        f"## Rows with the highest loss{': likely wrong or hard' if stands_out(report.rows) else ''}",
        "",
        *table(head, [_row(row) for row in worst]),
        "",
        f"## Rows with the lowest loss: {'memorised' if known else 'the easiest'}",
        "",
        *table(head, [_row(row) for row in lowest]),
        "",
        f"{evaluated} {note if known else 'None of them is memorised.'}",
    ]


def _row(row: NamedRow) -> tuple[str, str, str, str]:
    side = "validation" if row.loss.validation else "training"
    return row.origin, f"{row.loss.tuned:.3f}", f"{row.loss.base:.3f}", side


def before_and_after(report: str) -> str:
    """That section of a report.md: numbers, and sentences about them; empty where nothing was compared."""
    _, begin, rest = report.partition(f"\n{COMPARED}\n")
    return rest.partition("\n## ")[0].strip() if begin else ""
