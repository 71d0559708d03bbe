"""What a record has that is read otherwise than its author may think: nothing is skipped for it, but it is said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from llm_installer.core.text import shortened
from llm_installer.data.formats.learning import doubts
from llm_installer.data.formats.speakers import is_answer
from llm_installer.data.formats.turns import spoken, unread_keys
from llm_installer.data.formats.values import parsed


def doubtful(record: object) -> Iterator[str]:
    """What answers of a record say of themselves that is neither yes nor no, so that they are not trained on."""
    for turn in _turns(record):
        if is_answer(turn):
            yield from doubts(turn)


def remarks(record: object) -> Iterator[str]:
    """What else there is to say about a record, each as a sentence without an end."""
    for turn in _turns(record):
        for key in unread_keys(turn):
            yield f"the key '{shortened(key, 40)}' at turns is not known and not read"


def _turns(record: object) -> Iterator[Mapping[str, object]]:
    for value in record.values() if isinstance(record, dict) else ():
        if type(value) is list:
            yield from spoken(value)
        elif type(value) is str and value[:2] == "[{":
            yield from spoken(parsed(value))
