"""A Go template that renders what a chat template does: found by rendering marks, and proven on conversations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import permutations
from typing import TypeAlias

from jinja2 import TemplateError

from llm_installer.data.encoding.encode import Encoder
from llm_installer.export.gguf.probes import CONVERSATIONS
from llm_installer.export.ollama.go_template import literal, render

Turns: TypeAlias = "Sequence[Mapping[str, object]]"
_ROLES = ("system", "user", "assistant")
_MARKS = {"system": "\u00abtold\u00bb", "user": "\u00abasked\u00bb", "assistant": "\u00absaid\u00bb"}
"""Texts that no template writes by itself."""
_THOUGHT: Turns = (
    {"role": "user", "content": "Why?"},
    {"role": "assistant", "content": "<think>\nHm.\n</think>\n\nSo."},
    {"role": "user", "content": "And?"},
)
"""Of earlier answers some templates leave thoughts out."""
_PROOF = (*CONVERSATIONS, _THOUGHT)
_FAILS = (TemplateError, TypeError, KeyError, ValueError)


def derive(encoder: Encoder) -> tuple[str, str]:
    """A Go template that makes the same text of all conversations that are tried, or an empty one and why there is
    none, as the end of a sentence."""
    if "strftime_now" in encoder.template.source:
        return "", "its chat template writes the date"

    def rendered(turns: Turns) -> str:
        text = encoder.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        # The program that runs the file puts the first token there itself.
        return str(text).removeprefix(str(encoder.tokenizer.bos_token) if encoder.bos else "")

    return derived(rendered)


def derived(rendered: Callable[[Turns], str]) -> tuple[str, str]:
    """The same for any way to render turns with the opening of an answer."""
    try:
        found = _composed(rendered)
    except _FAILS:
        return "", "its chat template refuses some orders of turns"
    if not found:
        return "", "its chat template does more than to write something between turns"
    for turns in _PROOF:
        if render(found, turns) != _or_nothing(rendered, turns):
            return "", f"the nearest one would render {str(turns[-1]['content'])!r} differently"
    return found, ""


def _or_nothing(rendered: Callable[[Turns], str], turns: Turns) -> str | None:
    """The text; None for turns that the template refuses."""
    try:
        return rendered(turns)
    except _FAILS:
        return None


def _composed(rendered: Callable[[Turns], str]) -> str:
    """The template that writes between two turns what is written between two marks, by their roles, as well as before
    the first and after the last; empty where the marks are not found as they were given."""
    alone = {role: _around(rendered, role) for role in _ROLES}
    both = {pair: _around(rendered, *pair) for pair in permutations(_ROLES, 2)}
    if not all(alone.values()) or not all(both.values()):
        return ""
    before = {role: {"": alone[role][0]} for role in _ROLES}
    for (one, other), parts in both.items():
        before[other][one] = parts[1]
    choices = {role: _choice("$last", before[role]) for role in _ROLES}
    ends = {role: alone[role][1] for role in _ROLES}
    return (
        '{{ $last := "" }}{{ range $i, $m := .Messages }}'
        f"{_branches('$m.Role', choices)}{{{{ $m.Content }}}}{{{{ $last = $m.Role }}}}{{{{ end }}}}"
        f"{_choice('$last', ends)}"
    )


def _around(rendered: Callable[[Turns], str], *roles: str) -> list[str]:
    """What lies around the marks of these turns; empty where they are not there once each and in their order."""
    text, found = rendered([{"role": role, "content": _MARKS[role]} for role in roles]), []
    for role in roles:
        if text.count(_MARKS[role]) != 1:
            return []
        before, _, text = text.partition(_MARKS[role])
        found.append(before)
    return [*found, text]


def _choice(variable: str, texts: Mapping[str, str]) -> str:
    """The text for a value of the variable."""
    return _branches(variable, {value: literal(text) for value, text in texts.items()})


def _branches(variable: str, parts: Mapping[str, str]) -> str:
    """A part of a template for a value of the variable; the last for all other values."""
    if len(set(parts.values())) == 1:
        return next(iter(parts.values()))
    *some, (_, other) = parts.items()
    tests = [f'if eq {variable} "{value}"' for value, _ in some]
    first = "".join(
        f"{{{{ {'else ' if number else ''}{test} }}}}{part}"
        for number, (test, (_, part)) in enumerate(zip(tests, some, strict=True))
    )
    return f"{first}{{{{ else }}}}{other}{{{{ end }}}}"
