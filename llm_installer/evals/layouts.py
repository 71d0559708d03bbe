"""LAYOUTS: records with choices to rank, one row for each way to write them down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from llm_installer.data.formats.names import in_lower_case
from llm_installer.data.formats.values import SkipRecord, blank, parsed, render

LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Layout:
    """Under which keys a record has what; the first that it has is taken. Keys are in lower case."""

    name: str
    asks: tuple[str, ...]
    choices: tuple[str, ...]
    """The list of choices, or an object or a list of objects with labels; several keys at once are a choice each."""
    right: tuple[str, ...]
    """Which choice is right: its label, its index from 0, or its text."""
    continues: bool = False
    """Whether a choice goes on where the text ends, without a chat template."""
    apart: bool = False
    """Whether each choice has a key of its own."""


_QUESTION = ("question", "question_stem", "query", "prompt", "goal")
_LIST = ("choices", "options", "endings")
_RIGHT = (
    "answer",
    "answerkey",
    "answer_key",
    "answer_index",
    "answer_idx",
    "label",
    "correct",
    "gold",
    "target",
    "cop",
)

LAYOUTS = (
    Layout("a text and endings, as in HellaSwag", ("ctx", "context", "startphrase"), ("endings",), _RIGHT, True),
    Layout("a question and choices, as in MMLU and ARC", _QUESTION, _LIST, _RIGHT),
    Layout("a question and A to D in columns", _QUESTION, ("a", "b", "c", "d"), _RIGHT, apart=True),
    Layout("a question and two solutions, as in PIQA", _QUESTION, ("sol1", "sol2"), _RIGHT, apart=True),
)


@dataclass(frozen=True)
class Choice:
    """A question and the choices to rank."""

    question: str
    context: str
    """A text that the question is about; empty where there is none."""
    choices: tuple[str, ...]
    right: int
    """Which of them is right, from 0."""
    continues: bool


def choice_of(record: object) -> Choice | None:
    """The record as a question with choices; None where no layout fits.

    Raises SkipRecord where one fits and the record breaks it: one choice, an empty one, no right one among them.
    """
    if not isinstance(record, Mapping):
        return None
    record = in_lower_case(record)
    for layout in LAYOUTS:
        asks = next((key for key in layout.asks if key in record), "")
        right = next((key for key in layout.right if key in record), "")
        listed = [key for key in layout.choices if key in record]
        if asks and right and listed and (not layout.apart or len(listed) == len(layout.choices)):
            return _read(record, layout, (asks, right, listed))
    return None


def _read(record: Mapping[str, object], layout: Layout, keys: tuple[str, str, Sequence[str]]) -> Choice:
    asks, right, listed = keys
    question = render(record[asks], asks)
    if layout.apart:
        found = [(key, render(record[key], key)) for key in listed]
    else:
        found = _labelled(parsed(record[listed[0]]), listed[0])
    if blank(question):
        raise SkipRecord(f"{asks} is empty")
    if len(found) < 2 or any(blank(text) for _, text in found):
        raise SkipRecord(f"{listed[0]} has fewer than two choices, or an empty one")
    context = record.get("passage", record.get("context")) if not layout.continues else None
    about = context if isinstance(context, str) else ""
    texts = tuple(text for _, text in found)
    return Choice(question, about, texts, _index(record[right], found, right), layout.continues)


def _labelled(value: object, where: str) -> list[tuple[str, str]]:
    """(label, text) of each choice; the label is empty where there is none."""
    if isinstance(value, Mapping):
        labels, texts = value.get("label", value.get("labels")), value.get("text", value.get("texts"))
        if isinstance(labels, list | tuple) and isinstance(texts, list | tuple) and len(labels) == len(texts):
            return [(render(a, where), render(b, where)) for a, b in zip(labels, texts, strict=True)]
        return [(str(label), render(text, where)) for label, text in value.items()]
    if not isinstance(value, list | tuple):
        raise SkipRecord(f"{where} is not a list of choices")
    return [
        (str(one.get("label", "")), render(one.get("text"), where))
        if isinstance(one, Mapping)
        else ("", render(one, where))
        for one in value
    ]


def _index(right: object, found: Sequence[tuple[str, str]], where: str) -> int:
    """Which choice is meant: by its label, its text, its letter, or its index from 0. Raises SkipRecord.

    What is written as a number is an index before it is the text of a choice, as in MMLU's sums.
    """
    said = render(right, where).strip()
    labelled = [i for i, (label, _) in enumerate(found) if label and label.lower() == said.lower()]
    written = [i for i, (_, text) in enumerate(found) if text.strip() == said]
    counted = [int(said)] if said.isdecimal() else []
    lettered = [LETTERS.index(said.lower())] if len(said) == 1 and said.lower() in LETTERS else []
    ways = (counted, written) if isinstance(right, int) else (written, counted)
    for way in (labelled, *ways, lettered):
        if way and way[0] < len(found):
            return way[0]
    raise SkipRecord(f"{where} names none of the {len(found)} choices")
