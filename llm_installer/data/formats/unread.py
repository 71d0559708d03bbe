"""Keys of a record that look as if they should be trained on, or should say what is, and that nothing is made of."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache

from llm_installer.core.examples import Example
from llm_installer.data.formats.answers import ANSWERS
from llm_installer.data.formats.converters import FLAT_THOUGHTS
from llm_installer.data.formats.learning import ALL, lists, verdict
from llm_installer.data.formats.names import bare
from llm_installer.data.formats.turns import is_thought
from llm_installer.data.formats.values import absent

_WORDS = re.compile(r"[\W_]+|(?<=[a-z])(?=[A-Z])")
_THOUGHTS = frozenset(["think", "thinking", "thought", "thoughts", "reasoning", "cot", "rationale", "rationales"])
_CHOICES = frozenset(["choices", "options", "alternatives", "candidates"])
_QUESTIONS = frozenset(["prompt", "question", "query", "instruction", "input", "request", "problem", "user", "human"])
_BESIDE = frozenset(
    [
        *("context", "contexts", "input", "inputs", "inputtext", "passage", "passages", "paragraph", "paragraphs"),
        *("document", "documents", "article", "background"),
    ]
)
"""Keys, bare, of a text that a question may be about."""
_VERDICTS = frozenset(["label", "ktotag", "desirable", "isdesirable", "accepted", "isgood", "thumbsup"])
"""Keys, bare, at which people say whether an answer is good."""
_READ = frozenset(map(bare, FLAT_THOUGHTS))
_IF_BAD = "if that means a bad answer, take it out, or write true and false at 'label' of each record"
_IF_ABOUT = "--columns prompt=KEY,answer=KEY,context=KEY puts a text before its question"


def unread(record: Mapping[str, object], example: Example) -> Iterator[str]:
    """What of a record is not in its example although it could be, each as a sentence without an end."""
    suspicious = _suspicious(tuple(record))
    for key in lists(record):
        yield f"'{key}' of a record is a list and not read: say at each answer whether it counts (1) or does not (0)"
    talks = suspicious and any(type(v) is list and v and type(v[0]) is dict for v in record.values())
    for key, kind in suspicious:
        value = record[key]
        if absent(value):
            continue
        if kind == "train" and talks and isinstance(value, str | list | dict):
            yield f"'{key}' of a record is not read: say at each answer whether it counts (1) or does not (0)"
        elif kind == "thought" and example.kind != "text" and _is_text(value) and not _is_in(value, example):
            yield f"'{key}' of a record is not read: put a thought at its answer, or at 'reasoning'"
        elif kind == "choices" and example.kind == "chat" and not talks and isinstance(value, list | dict):
            yield f"'{key}' of a record is not read, so that its question stands there without them"
        elif (
            kind == "verdict" and example.kind != "text" and verdict(value) is False and not (_is_word(value, example))
        ):
            yield f"'{key}' of a record is {value}, and its answer is trained on; {_IF_BAD}"
        elif kind == "beside" and example.kind != "text" and _are_texts(value) and not _is_in(value, example):
            yield f"'{key}' of a record is not read, so that its question stands there without it; {_IF_ABOUT}"
        elif example.kind == "text" and (kind in ("pair", "beside") or (kind == "thought" and _is_text(value))):
            yield f"'{key}' beside 'text' is not read; if they are a question and its answer, name them with --columns"


@lru_cache(maxsize=4096)
def _suspicious(keys: tuple[object, ...]) -> tuple[tuple[str, str], ...]:
    """The keys that could mean something, and what."""
    named = [(key, _kind(key)) for key in keys if isinstance(key, str)]
    return tuple((key, kind) for key, kind in named if kind)


def _kind(key: str) -> str:
    words = {word.lower() for word in _WORDS.split(key)}
    name = bare(key)
    if (name not in ALL or name == "trainon") and any(word.startswith("train") for word in words):
        return "train"
    if words & _THOUGHTS or name in _READ:
        return "thought"
    if name in _CHOICES:
        return "choices"
    if name in _VERDICTS:
        return "verdict"
    if name in _BESIDE:
        return "beside"
    return "pair" if name in ANSWERS or name in _QUESTIONS else ""


def _is_text(value: object) -> bool:
    """Whether a value is text, or a list of texts, rather than a number or a word that says how much was thought."""
    texts = value if isinstance(value, list) else [value]
    return is_thought(value) and bool(texts) and all(isinstance(text, str) for text in texts)


def _are_texts(value: object) -> bool:
    """Whether a value is a text or a list of texts; what is nested is read by whoever knows its form."""
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(each, str) for each in value))


def _is_word(value: object, example: Example) -> bool:
    """Whether a label is what the answer says, as where texts are classified."""
    return isinstance(value, str) and value.strip().lower() in example.messages[-1].content.lower()


def _is_in(value: object, example: Example) -> bool:
    """Whether a text, or each of several, stands somewhere in the example."""
    texts = [text for message in example.messages for text in (message.content, message.reasoning_content)]
    parts = value if isinstance(value, list) else [value]
    return all(any(str(part).strip() in text for text in texts) for part in parts)
