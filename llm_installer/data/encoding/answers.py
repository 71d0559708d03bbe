"""Where an answer is in what a chat template renders, where it ends, and what of it the template does not show."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from llm_installer.core.examples import Message
from llm_installer.core.text import counted

_CLOSES_A_PART = re.compile("^</|[_\u2581]end\\W*$|^<[a-z_]+\\|>$")
"""Tokens that close a call or a thought, but not the turn: `</tool_call>`, `<|tool_call_end|>`, `<tool_call|>`."""


@dataclass(frozen=True)
class Rendered:
    """A text, and the spans of its characters that are supervised."""

    text: str
    supervised: tuple[tuple[int, int], ...]
    append_eos: bool = False
    """Whether the end-of-text token, supervised too, follows it."""
    unshown: tuple[str, ...] = ()
    """What was given and is not in it, in words, since the template has no place for it: a thought, a call."""


def ended(prompt: str, answer: str, end: str, added: Sequence[str], eos: str) -> Rendered:
    """A prompt and what is learned after it: the answer up to what ends it.

    That is the template's own `end`, else a token that the answer ends with and that closes more than a part of it;
    where there is neither, `eos` is to follow. `added` are the tokenizer's added tokens, the longest first.
    """
    if end and end in answer:
        answer = answer[: answer.rfind(end) + len(end)]
        return Rendered(prompt + answer, ((len(prompt), len(prompt) + len(answer)),))
    answer = answer.rstrip()
    closing = next((token for token in added if answer.endswith(token)), "")
    closed = closing != "" and (closing == eos or not _CLOSES_A_PART.search(closing))
    return Rendered(prompt + answer, ((len(prompt), len(prompt) + len(answer)),), append_eos=not closed)


def together(found: Sequence[Rendered]) -> list[Rendered]:
    """As few texts as possible: one that a later text begins with becomes a part of that."""
    rows: list[Rendered] = []
    for each in reversed(found):
        last = rows[-1] if rows else None
        if last and not each.append_eos and last.text.startswith(each.text):
            spans, unshown = (*each.supervised, *last.supervised), (*each.unshown, *last.unshown)
            rows[-1] = replace(last, supervised=spans, unshown=unshown)
        else:
            rows.append(each)
    return rows[::-1]


def opening(prompt: str, before: str, added: Sequence[str]) -> str:
    """What a prompt has beyond the same turns without the opening of an answer; it begins with a complete token."""
    at = same_for(prompt, before)
    for token in added:
        start = prompt.rfind(token, 0, at + len(token) - 1)
        if start != -1 and start < at < start + len(token):
            return prompt[start:]
    return prompt[at:]


def same_for(first: str, second: str) -> int:
    """The number of characters with which both texts begin."""
    differences = (i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b)
    return next(differences, min(len(first), len(second)))


def differing(turn: Mapping[str, object]) -> dict[str, object]:
    """The turn with other words in the same places, different from the first letter on."""
    changed = {key: _other(value) if key != "role" and isinstance(value, str) else value for key, value in turn.items()}
    calls = turn.get("tool_calls")
    if isinstance(calls, list):
        names = [call["function"] | {"name": _other(call["function"]["name"])} for call in calls]
        changed["tool_calls"] = [call | {"function": name} for call, name in zip(calls, names, strict=True)]
    return changed


def _other(text: str) -> str:
    return ("z" if text.lstrip().startswith("q") else "q") + text if text.strip() else text


def unshown(message: Message, answer: str, native_calls: bool) -> Iterator[str]:
    """What of an assistant's turn is not in its rendered answer, in words."""
    flat = _flat(answer)
    if message.reasoning_content and _flat(message.reasoning_content) not in flat:
        yield "its thought"
    calls = json.loads(message.tool_calls) if message.tool_calls and native_calls else []
    lost = sum(not _call_shown(call["function"], flat) for call in calls)
    if lost:
        yield f"{lost} of its {counted(len(calls), 'tool call')}"
    if message.content and _flat(message.content) not in flat:
        yield "its text beside a tool call" if message.tool_calls else "a part of its text"


def _call_shown(function: Mapping[str, object], flat: str) -> bool:
    return _flat(str(function["name"])) in flat and all(
        any(_flat(form) in flat for form in forms) for forms in _leaves(function.get("arguments"))
    )


def _leaves(value: object) -> Iterator[tuple[str, ...]]:
    """The texts by which each plain value inside may be shown."""
    if isinstance(value, Mapping):
        for inner in value.values():
            yield from _leaves(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner)
    elif isinstance(value, str):
        escaped = json.dumps(value, ensure_ascii=False)[1:-1]
        yield value, escaped, json.dumps(value)[1:-1], escaped.replace("'", "\\'")
    elif value is not None:
        yield json.dumps(value), str(value)


def _flat(text: str) -> str:
    """The text without its spaces, which templates add and remove."""
    return "".join(text.split())
