"""What a record has beside what is trained on: further right answers, and a column that says where it is from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice

from llm_installer.core.examples import Example, Origin
from llm_installer.data.formats import detect
from llm_installer.data.formats.names import in_lower_case
from llm_installer.data.formats.values import SkipRecord, parsed
from llm_installer.data.reading.readers import read_rows, reads_text
from llm_installer.data.reading.rows import Source

REFERENCES = ("answers", "references", "targets", "aliases", "answer_aliases")
"""Where a record has several right answers."""
GROUPS = ("source", "dataset", "subject", "category", "subset", "domain", "task")
"""Columns by which the rows of one file may be told apart."""
_QUESTIONS = ("question", "query", "prompt", "instruction")
_LOOKED_AT = 50
_SHORT = 80
"""Characters that the name of a group has at most."""


@dataclass(frozen=True)
class Beside:
    """What one record has."""

    question: str = ""
    references: tuple[str, ...] = ()
    group: str = ""

    @classmethod
    def of(cls, value: object) -> Beside:
        """What a raw record has; nothing where it is no object."""
        if not isinstance(value, Mapping):
            return cls()
        record = in_lower_case(value)
        group = next((str(record[key]) for key in GROUPS if isinstance(record.get(key), str)), "")
        question = next((str(record[key]) for key in _QUESTIONS if isinstance(record.get(key), str)), "")
        found = chain.from_iterable(_texts(record.get(key)) for key in REFERENCES)
        return cls(question, tuple(dict.fromkeys(found)), group if len(group) <= _SHORT else "")


@dataclass(frozen=True)
class BesideAll:
    """What all records have, by their origin."""

    by_origin: Mapping[Origin, Sequence[Beside]] = field(default_factory=dict)

    def of_example(self, example: Example) -> Beside:
        """What the record has that an example is from; of several questions in one record, the one it asks."""
        found = self.by_origin.get(example.origin, ())
        asked = example.prompt.rstrip()
        if len(found) > 1:
            found = [one for one in found if one.question and asked.endswith(one.question.strip())]
        return found[0] if found else Beside()


def beside(sources: Sequence[Source]) -> BesideAll:
    """What the records of the sources have; those whose first ones have nothing are not read to their end."""
    found: dict[Origin, list[Beside]] = defaultdict(list)
    for source in sources:
        if reads_text(source):
            continue
        rows = ((row.origin, one) for row in read_rows(source) for one in _spread(row.value))
        first = list(islice(rows, _LOOKED_AT))
        if any(one.references or one.group for _, one in first):
            for origin, one in chain(first, rows):
                found[origin].append(one)
    return BesideAll(found)


def _spread(value: object) -> Iterator[Beside]:
    """What a record has, or each of the questions that a nested one consists of."""
    format = detect(value)
    if format is None or format.spread is None or not isinstance(value, Mapping):
        yield Beside.of(value)
        return
    try:
        yield from map(Beside.of, format.spread(in_lower_case(value)))
    except SkipRecord:  # whoever converts it says what is wrong with it
        return


def _texts(value: object) -> Iterator[str]:
    """The texts in a list, in SQuAD's {"text": [...]}, or in a list of such."""
    try:
        value = parsed(value)
    except SkipRecord:
        return
    if isinstance(value, Mapping):
        value = value.get("text")
    if isinstance(value, str):
        value = [value]
    for one in value if isinstance(value, list | tuple) else ():
        text = one.get("text") if isinstance(one, Mapping) else one
        if isinstance(text, str) and text.strip():
            yield text
