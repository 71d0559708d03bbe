"""What a record has that is read otherwise than its author may think: nothing is skipped for it, but it is said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

from llm_installer.core.examples import Example
from llm_installer.core.text import shortened
from llm_installer.data.formats.format import Format
from llm_installer.data.formats.learning import doubts, says_no
from llm_installer.data.formats.pairs import is_glued
from llm_installer.data.formats.speakers import is_answer
from llm_installer.data.formats.turns import IMAGE_MARK, masked_parts, spoken, unread_keys
from llm_installer.data.formats.values import SkipRecord, parsed


def talk(record: object) -> list[Mapping[str, object]]:
    """The turns of a record that have more to say than a role and a text."""
    turns: list[Mapping[str, object]] = []
    for value in record.values() if isinstance(record, dict) else ():
        if type(value) is list:
            turns += spoken(value)
        elif type(value) is str and value[:2] == "[{":
            with suppress(SkipRecord):  # which is the reason why the record is skipped, if it is read at all
                turns += spoken(parsed(value))
    return turns


def doubtful(turns: Sequence[Mapping[str, object]]) -> Iterator[str]:
    """What answers say of themselves that is neither yes nor no, so that they are not trained on."""
    for turn in turns:
        if is_answer(turn):
            yield from doubts(turn)
            if any(map(masked_parts, turn.values())):
                yield "a part of an answer says that it does not count, and nothing of that answer is trained on"


def remarks(record: object, turns: Sequence[Mapping[str, object]]) -> Iterator[str]:
    """What else there is to say about a record and its turns, each as a sentence without an end."""
    for key in says_no(record) if isinstance(record, dict) else ():
        yield f"'{key}' of a record says that it does not count, and is read only at the turns of a conversation"
    for turn in turns:
        for key in unread_keys(turn):
            yield f"the key '{shortened(key, 40)}' at turns is not known and not read"


def made(example: Example, asked: Format | None) -> Iterator[str]:
    """What there is to say about what was made of a record; `asked` is the format that the user named."""
    if not example.images and any([IMAGE_MARK in message.content for message in example.messages]):
        yield f"{IMAGE_MARK} in the text of a record without images is trained on as text"
    if asked is None and is_glued(example):
        yield (
            "the completion follows its prompt without a space between; if they are a question and its answer, "
            "add --dataset-format pair"
        )
