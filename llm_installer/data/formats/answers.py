"""--answers-as json: answers that are objects or lists, as the JSON text of them; results of tools, too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeGuard

from llm_installer.data.formats.names import bare, in_lower_case
from llm_installer.data.formats.speakers import PAIRS, SAID, SPEAKER, is_answer, is_result
from llm_installer.data.formats.tools import dump
from llm_installer.data.formats.values import Record

CHOICES = ("text", "json")
"""What --answers-as takes."""
AS_JSON = "--answers-as json"
ANSWERS = frozenset(
    [
        *("output", "response", "completion", "answer", "solution", "assistant", "reply", "summary", "caption", "a"),
        *("target", "targets", "targettext", "outputtext", "canonicalsolution"),
        *(bare(answered) for _, answered in PAIRS),
    ]
)
"""Keys, bare, that hold the answer of a record or of a turn with both sides."""
_ALTERNATIVES = ("answer", "caption")
"""Keys at which a list of texts is several right answers."""
_REFUSED = (" is an object where text is expected", " is a list where text is expected")


def with_json_answers(record: Record) -> Record:
    """The record with JSON text for its answers that are objects or lists. Raises SkipRecord for what JSON lacks."""
    return {
        key: [_turn(turn) for turn in value] if _is_talk(value) else _answer(key, value)
        for key, value in record.items()
    }


def could_be_json(reason: str) -> bool:
    """Whether a record that was skipped for this reason could be trained on with --answers-as json."""
    what = next((reason.removesuffix(end) for end in _REFUSED if reason.endswith(end)), "")
    return what.startswith(("the content of turn", "turn ")) or bare(what) in ANSWERS


def _is_talk(value: object) -> TypeGuard[Sequence[object]]:
    """Whether a value is a list of turns."""
    sides = (*SPEAKER, *(answered for _, answered in PAIRS))
    return (
        isinstance(value, list | tuple)
        and bool(value)
        and all(isinstance(turn, Mapping) and any(key in sides for key in in_lower_case(turn)) for turn in value)
    )


def _turn(turn: object) -> object:
    if not isinstance(turn, Mapping):
        return turn
    turn = in_lower_case(turn)
    if not any(key in turn for key in SPEAKER):
        return {key: _answer(key, value) for key, value in turn.items()}
    if not is_answer(turn) and not is_result(turn):
        return turn
    return {key: value if key not in SAID or _are_parts(value) else _as_text(value) for key, value in turn.items()}


def _are_parts(content: object) -> bool:
    """Whether the content of a turn is a list of texts and of parts that say their type."""
    return isinstance(content, list | tuple) and all(
        isinstance(part, str) or (isinstance(part, Mapping) and "type" in part) for part in content
    )


def _answer(key: str, value: object) -> object:
    if bare(key) not in ANSWERS:
        return value
    if bare(key) in _ALTERNATIVES and isinstance(value, list | tuple) and all(isinstance(one, str) for one in value):
        return value
    return _as_text(value)


def _as_text(value: object) -> object:
    return dump(value, "an answer") if isinstance(value, dict | list | tuple) else value
