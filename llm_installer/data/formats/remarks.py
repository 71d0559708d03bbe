"""What a record has that is read otherwise than its author may think: nothing is skipped for it, but it is said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from llm_installer.core.examples import Dropped, Example
from llm_installer.core.text import shortened
from llm_installer.data.formats.format import Format
from llm_installer.data.formats.learning import doubts, says_no
from llm_installer.data.formats.pairs import is_glued
from llm_installer.data.formats.speakers import is_answer
from llm_installer.data.formats.turns import IMAGE_MARK, spoken, unread_keys
from llm_installer.data.formats.values import parsed


def doubtful(record: object) -> Iterator[str]:
    """What answers of a record say of themselves that is neither yes nor no, so that they are not trained on."""
    for turn in _turns(record):
        if is_answer(turn):
            yield from doubts(turn)


def remarks(record: object, found: Sequence[Example | Dropped], asked: Format | None) -> Iterator[str]:
    """What else there is to say about a record and what was made of it, each as a sentence without an end.

    `asked` is the format that the user named.
    """
    for key in says_no(record) if isinstance(record, dict) else ():
        yield f"'{key}' of a record says that it does not count, and is read only at the turns of a conversation"
    for turn in _turns(record):
        for key in unread_keys(turn):
            yield f"the key '{shortened(key, 40)}' at turns is not known and not read"
    for item in found:
        if isinstance(item, Example) and not item.images and any(IMAGE_MARK in m.content for m in item.messages):
            yield f"{IMAGE_MARK} in the text of a record without images is trained on as text"
        if asked is None and isinstance(item, Example) and is_glued(item):
            yield (
                "the completion follows its prompt without a space between; if they are a question and its answer, add "
                "--dataset-format pair"
            )


def _turns(record: object) -> Iterator[Mapping[str, object]]:
    for value in record.values() if isinstance(record, dict) else ():
        if type(value) is list:
            yield from spoken(value)
        elif type(value) is str and value[:2] == "[{":
            yield from spoken(parsed(value))
