"""Two runs side by side: the settings in which they differ, their losses, and answers to the same prompts.

Run as: llm-installer adapters compare A B
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from llm_installer.core.errors import AdapterError, InstallerError, UsageError
from llm_installer.core.paths import ModelDir, Run
from llm_installer.core.run.progress import Progress
from llm_installer.core.run.record import RunRecord
from llm_installer.core.voice import Voice
from llm_installer.planning.options import Options
from llm_installer.planning.plan import flat
from llm_installer.runs.listing import RunRow, find_run

if TYPE_CHECKING:
    from llm_installer.core.examples import Example

ASKED = 3
BUNDLED = ("Hello! Who are you, and what can you do?",)
"""Asked where neither the user nor the run's data give a prompt."""


@dataclass(frozen=True)
class Difference:
    """One setting that is not the same in both."""

    name: str
    one: str
    other: str


@dataclass(frozen=True)
class SideBySide:
    """What both runs answer to one prompt; `expected` is what the data says, where it says something."""

    prompt: str
    expected: str
    one: str
    other: str


@dataclass(frozen=True)
class Questions:
    """What both are asked, and where that is from."""

    source: str
    texts: tuple[str, ...] = ()
    examples: tuple[Example, ...] = ()


@dataclass(frozen=True)
class RunComparison:
    """Where two runs differ, and what both answer."""

    one: RunRow
    other: RunRow
    differences: Sequence[Difference]
    comparable: bool
    """Whether both losses are of the same rows."""
    source: str
    """Where the questions are from."""
    answers: Sequence[SideBySide] = ()
    unanswered: str = ""
    """Why there are no answers, as a sentence; empty where there are."""


def compare(folder: ModelDir, one: str, other: str, prompts: Sequence[str], voice: Voice) -> RunComparison:
    """Where the runs that the words mean differ, and what both answer where both have an adapter.

    Raises UsageError where both words mean one run.
    """
    first, second = find_run(folder, one), find_run(folder, other)
    if first.run.id == second.run.id:
        raise UsageError(f"{one!r} and {other!r} both name the same run, {first.run.id}; name two different ones")
    asked = questions(first, prompts)
    found = RunComparison(
        one=first,
        other=second,
        differences=differences(first.run, second.run),
        comparable=same_rows(first.run, second.run),
        source=asked.source,
    )
    for row in (first, second):
        if not row.usable:
            reason = f"Run {row.run.id} ({row.status}) has no adapter, so the answers cannot be compared"
            return replace(found, unanswered=reason)
    try:
        with voice.waiting("Asking both runs"):
            return replace(found, answers=ask_both(folder, first, second, asked))
    except AdapterError as error:  # the settings and losses are still worth seeing
        return replace(found, unanswered=str(error))


def differences(one: Run, other: Run) -> list[Difference]:
    """Settings of the two plans, data and weights that differ, by name."""
    first, second = _settings(one), _settings(other)
    return [
        Difference(name, first.get(name, "-"), second.get(name, "-"))
        for name in dict.fromkeys([*first, *second])
        if first.get(name) != second.get(name)
    ]


def same_rows(one: Run, other: Run) -> bool:
    """Whether both losses are of the same rows: the validation rows, or where there are none, training rows."""
    first, second = RunRecord.read(one), RunRecord.read(other)
    if first is None or second is None:
        return False
    seen, mine, yours = Progress.read(one), _settings(one), _settings(other)
    validated = seen is not None and seen.validation_loss is not None
    same = first.rows.split("-")[1:] == second.rows.split("-")[1:] if validated else first.rows == second.rows
    return same and all(mine.get(name) == yours.get(name) for name in ("evaluation_rows", "seed"))


def questions(row: RunRow, given: Sequence[str], count: int = ASKED) -> Questions:
    """The given prompts; else `count` validation rows of the run's data; else, without data, a built-in one."""
    if given:
        return Questions("your prompts", texts=tuple(given))
    from llm_installer.data.prepare import read
    from llm_installer.inference.before_after import different

    record = RunRecord.read(row.run)
    try:
        data = read(Options.from_kwargs(**record.options), Path(record.base)) if record else None
    except InstallerError:  # moved, deleted or changed since: a comparison does not depend on it
        data = None
    if data is None:
        return Questions("a built-in prompt", texts=BUNDLED)
    examples = data.validation if len(data.validation) else data.train
    source = "validation" if len(data.validation) else "training"
    return Questions(f"{source} rows of {row.data}", examples=tuple(different(examples, count)))


def ask_both(folder: ModelDir, one: RunRow, other: RunRow, asked: Questions) -> list[SideBySide]:
    """Greedy answers of both, each from its own adapter and tokenizer, one after the other to save memory."""
    (prompts, mine), (_, yours) = _answers(folder, one, asked), _answers(folder, other, asked)
    return [SideBySide(p, e, a, b) for (p, e), a, b in zip(prompts, mine, yours, strict=True)]


def _answers(folder: ModelDir, row: RunRow, asked: Questions) -> tuple[list[tuple[str, str]], list[str]]:
    """((prompt, expected) of each question, the answers); one that the template refuses is answered with nothing."""
    from llm_installer.inference.before_after import ANSWER, Question, question_ids, question_of
    from llm_installer.inference.generate import answers
    from llm_installer.inference.load import load_assistant

    assistant = load_assistant(folder, row.adapter.resolve())
    encoder, style = assistant.encoder, assistant.style
    found = [Question(text, "", question_ids(encoder, text, style)) for text in asked.texts]
    found += [question_of(encoder, example) or Question(example.prompt, "", []) for example in asked.examples]
    can_be_asked = [question for question in found if question.ids]
    ids, images = [question.ids for question in can_be_asked], [question.images for question in can_be_asked]
    said = iter(answers(assistant.model, encoder, ids, ANSWER, images=images))
    return [(q.shown, q.expected) for q in found], [next(said).text if q.ids else "" for q in found]


def _settings(run: Run) -> dict[str, str]:
    """Plan, data and base weights as words. What only affects speed is kept: it can explain a difference, too."""
    try:
        plan: dict[str, object] = flat(json.loads(run.plan.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        plan = {}
    record = RunRecord.read(run)
    limits = plan.get("limits")
    plain = {k: v for k, v in plan.items() if k not in ("why", "limits", "cut")}
    plain |= limits if isinstance(limits, dict) else {}
    found = (
        {"data": record.data, "rows as encoded": record.rows[:12], "base weights": record.model[:12]} if record else {}
    )
    return {name: _shown(value) for name, value in {**found, **plain}.items()}


def _shown(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(_shown(v) for v in value) or "none"
    return "none" if value is None else str(value)
