"""From what --data names to the rows of an evaluation: examples as training reads them, with all right answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from llm_installer.core.errors import DataError, UsageError
from llm_installer.core.examples import Example, Message
from llm_installer.core.hints import program, quoted
from llm_installer.core.text import counted
from llm_installer.data.formats.converters import above_named
from llm_installer.data.formats.values import SkipRecord
from llm_installer.data.prepare import read
from llm_installer.data.reading.readers import read_rows
from llm_installer.data.reading.rows import Row, Source
from llm_installer.data.reading.sources import find_sources
from llm_installer.evals.beside import Beside, beside
from llm_installer.evals.layouts import Choice, choice_of
from llm_installer.evals.request import EvalRequest
from llm_installer.planning.options import Options

THOUGHT_ENDS = "</think>"


@dataclass(frozen=True)
class Item:
    """One row of an evaluation."""

    example: Example
    """The question with its right answer, as training would read it."""
    references: tuple[str, ...] = ()
    """Every right answer; none for plain text, or an answer that is a call of a tool."""
    choices: tuple[str, ...] = ()
    """What is ranked; the row is then not answered."""
    right: int = 0
    """Which choice is right."""
    group: str = ""
    """The value of a source column, where there is one."""


@dataclass(frozen=True)
class Items:
    """All rows, and what there is to say about how they were read."""

    rows: Sequence[Item]
    notes: tuple[str, ...]


def read_items(request: EvalRequest, base: Path) -> Items:
    """The rows that the data hold, as many as were asked for. Relative paths are below `base`.

    Raises DataError when there is none, and UsageError for options that do not suit the data.
    """
    if not request.data:
        raise UsageError("Say what to evaluate on, for example: --data test.jsonl")
    rows: list[Item] = []
    notes: list[str] = []
    others: list[str] = []
    for piece in _pieces(request.data, base):
        found = None if request.columns or request.dataset_format else _ranked(piece, base, notes)
        if found is None:
            others.append(piece)
        else:
            rows += found
    if others:
        if request.task == "choices":
            raise DataError(f"{others[0]} holds no choices to rank; a row needs a question, choices and an answer")
        rows += _from_training_reader(",".join(others), request, base, notes)
    rows = _sample(rows, request)
    if request.task in ("answers", "text"):
        rows = [replace(row, choices=()) for row in rows]
    if request.task == "text":
        rows = [replace(row, references=()) for row in rows]
    return Items(rows, tuple(dict.fromkeys(notes)))


def _pieces(given: Iterable[str], base: Path) -> list[str]:
    """What was named, one by one where commas only separate files that exist."""
    found: list[str] = []
    for text in given:
        parts = text.split(",")
        several = len(parts) > 1 and all((base / Path(part.strip()).expanduser()).exists() for part in parts)
        found += [part.strip() for part in parts] if several else [text]
    return found


def _ranked(piece: str, base: Path, notes: list[str]) -> list[Item] | None:
    """The questions with choices in the sources of `piece`; None where its first record is no such question."""
    sources, _ = find_sources(piece, base)
    rows = (row for source in _reserved(sources) for row in read_rows(source))
    found: list[Item] = []
    skipped: Counter[str] = Counter()
    for number, row in enumerate(rows):
        try:
            choice = choice_of(row.value)
        except SkipRecord as error:
            skipped[error.reason] += 1
            continue
        if choice is None and not number:
            return None
        if choice is None:
            skipped["it is no question with choices"] += 1
        else:
            found.append(_item(choice, row))
    for reason, count in skipped.most_common():
        notes.append(f"{counted(count, 'record')} of {piece} skipped: {reason}")
    if not found and skipped:
        raise DataError(f"No question with choices in {piece} can be used: {skipped.most_common()[0][0]}")
    return found or None


def _reserved(sources: Sequence[Source]) -> Sequence[Source]:
    """Of a dataset with splits, those for validation; else all."""
    return [source for source in sources if source.part == "validation"] or sources


def _item(choice: Choice, row: Row) -> Item:
    right = choice.choices[choice.right]
    asked = above_named(choice.question, choice.context) if choice.context else choice.question
    answer = f" {right}" if choice.continues else right
    turns = (Message("user", asked), Message("assistant", answer))
    example = Example(turns, row.origin, "completion" if choice.continues else "chat")
    return Item(example, (right,), choice.choices, choice.right, Beside.of(row.value).group)


def _from_training_reader(data: str, request: EvalRequest, base: Path, notes: list[str]) -> list[Item]:
    """What training would read of the data: what they reserve for validation where they do, else everything."""
    options = Options(
        data=data,
        dataset_format=request.dataset_format,
        columns=request.columns,
        answers_as=request.answers_as,
        validation_split=0.0,
        seed=request.seed,
    )
    given = read(options, base)
    examples = given.validation if len(given.validation) else given.train
    if len(given.validation):
        notes.append(f"the rows are those that the data reserve for validation: {given.split.reason}")
    if given.loaded.dropped_count:
        skipped = counted(given.loaded.dropped_count, "record")
        notes.append(f"{skipped} skipped; see why with: {program()} data {quoted(data)}")
    if given.split.duplicates:
        notes.append(f"{counted(given.split.duplicates, 'row')} skipped, since an identical one comes before")
    sources, _ = find_sources(data, base)
    more = beside(sources)
    return [_with_references(example, more.of_example(example)) for example in examples]


def _with_references(example: Example, found: Beside) -> Item:
    last = example.messages[-1]
    if example.kind == "text" or last.role != "assistant" or last.tool_calls or not last.content.strip():
        return Item(example, group=found.group)
    references = map(without_thought, (last.content, *found.references))
    return Item(example, tuple(dict.fromkeys(references)), group=found.group)


def without_thought(text: str) -> str:
    """What an answer says after its thought: that is not compared."""
    return text.rpartition(THOUGHT_ENDS)[2].strip()


def _sample(rows: list[Item], request: EvalRequest) -> list[Item]:
    most = request.max_examples
    if most is None or most >= len(rows):
        return rows
    chosen = np.sort(np.random.default_rng(request.seed).permutation(len(rows))[:most])
    return [rows[i] for i in chosen]
