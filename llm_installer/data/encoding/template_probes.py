"""What a chat template can do, found out by rendering small conversations with it: roles, calls, thoughts, settings."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TypeAlias

from llm_installer.core.errors import ModelError

Turns: TypeAlias = "list[dict[str, object]]"
"""A conversation as templates take it: for each turn its "role", its "content" and what else it has."""
Mode: TypeAlias = Mapping[str, object]
"""Settings that a template knows, as in {"enable_thinking": False}."""
Raw: TypeAlias = Callable[[Turns, object, bool, Mode], str]
"""Turns, tool definitions, whether to open an answer, and settings, to text. Raises CannotRender."""

PROBE, OTHER = "qwertz", "zwtreq"
MODES: tuple[Mode, ...] = (
    {},
    {"enable_thinking": True},
    {"enable_thinking": False},
    {"thinking": True},
    {"thinking": False},
)
"""Settings under which public templates open an answer in different ways: with a thought, without, or either."""
THOUGHT_KEYS = ("reasoning_content", "thinking", "reasoning")
THOUGHT = "<think>\n{}\n</think>\n\n"
"""How a model writes a thought whose template takes it out of every answer."""
_ID = "call00001"
_LONG_ID = "call_0123456789abcdefghij"


class CannotRender(Exception):
    """The template refuses this conversation; the message says why."""


@dataclass(frozen=True)
class Calls:
    """How a template takes tool calls."""

    empty: str | None = ""
    """The content of a turn that only calls: some templates want none."""
    as_text: bool = False
    """Whether arguments are JSON text rather than an object."""
    beside_text: bool = True
    """Whether calls are shown in a turn that says something too."""


@dataclass(frozen=True)
class Abilities:
    """What was found out about a chat template."""

    modes: tuple[Mode, ...]
    """Settings to try for an answer; the first is used for prompts."""
    unanswered: str
    """What every prompt ends with although no answer of the template follows it, as an opened thought; else empty."""
    system: bool
    calls: Calls | None
    tool_role: bool
    short_ids: bool
    """Whether ids of calls must have nine characters, and every call and result one."""
    thought: str
    """The key of a turn in which it takes a thought; empty when it has none."""
    thinking: Mode
    """The settings under which a thought follows the prompt."""
    removes_thoughts: bool
    """Whether it knows thoughts only to take them out of every answer."""
    end: str
    """The text that closes an answer; empty when the template has none."""


def find_abilities(render: Raw, added_tokens: Sequence[str]) -> Abilities:
    """The abilities of a template. Raises ModelError when it cannot render a question and its answer."""
    probes = _Probes(render)
    try:
        answered = render(_plain(PROBE), None, False, {})
    except CannotRender as error:
        raise ModelError(f"The model's chat template does not work: {error}; give the model another one") from None
    if PROBE not in answered:
        raise ModelError("The model's chat template shows nothing of an answer; give the model another one")
    modes = probes.modes()
    calls = next(probes.calls(), None)
    thought = next((key for key in THOUGHT_KEYS if probes.shows([*_plain()[:1], _thinking(key)])), "")
    return Abilities(
        modes=modes,
        unanswered=probes.unanswered(modes, answered),
        system=probes.shows([_turn("system", PROBE), _turn("user", "a")]),
        calls=calls,
        tool_role=probes.shows(_answered_call(calls, _ID)),
        short_ids=probes.shows(_answered_call(calls, _ID))
        and not all(probes.shows(_answered_call(calls, id)) for id in (_LONG_ID, "")),
        thought=thought,
        thinking=probes.thinking(modes, thought),
        removes_thoughts=not thought and not probes.shows(_plain(THOUGHT.format(PROBE) + "a")),
        end=_end(answered, added_tokens),
    )


class _Probes:
    def __init__(self, render: Raw) -> None:
        self._render = render

    def shows(self, turns: Turns, mode: Mode | None = None) -> bool:
        """Whether the template accepts these turns and shows the probe word in them."""
        try:
            return PROBE in self._render(turns, None, False, mode or {})
        except CannotRender:
            return False

    def modes(self) -> tuple[Mode, ...]:
        """The settings that open answers in different ways, first the one after which an answer follows directly."""
        found: dict[str, Mode] = {}
        for mode in MODES:
            try:
                found.setdefault(self._render(_plain()[:1], None, True, mode), mode)
            except CannotRender:
                continue
        return tuple(sorted(found.values(), key=lambda mode: not self._follows(mode))) or MODES[:1]

    def _follows(self, mode: Mode) -> bool:
        try:
            prompt = self._render(_plain()[:1], None, True, mode)
            return self._render(_plain(PROBE), None, False, mode).startswith(prompt + PROBE)
        except CannotRender:
            return False

    def thinking(self, modes: Sequence[Mode], thought: str) -> Mode:
        """The first settings whose prompt is followed by a turn with a thought."""
        for mode in modes:
            try:
                prompt = self._render(_plain()[:1], None, True, mode)
                if self._render([*_plain()[:1], _thinking(thought)], None, False, mode).startswith(prompt):
                    return mode
            except CannotRender:
                continue
        return modes[0]

    def unanswered(self, modes: Sequence[Mode], answered: str) -> str:
        """What the prompt has in front of an answer, and the rendered answer has not."""
        try:
            prompts = [self._render(_plain()[:1], None, True, mode) for mode in modes]
            wholes = [self._render(_plain(PROBE), None, False, mode) for mode in modes]
        except CannotRender:
            return ""
        opened = answered[: answered.rfind(PROBE)]
        if any(map(str.startswith, wholes, prompts)) or not prompts[0].startswith(opened):
            return ""
        return prompts[0].removeprefix(opened)

    def calls(self) -> Iterator[Calls]:
        """The ways to give calls in which their name and arguments are shown."""
        for as_text, empty in product((False, True), ("", None)):
            calls = Calls(empty, as_text)
            turn = _calling(calls, _ID, PROBE, OTHER)
            if self._both([_plain()[0], turn]):
                yield replace(calls, beside_text=self._both([_plain()[0], turn | {"content": "a"}]))

    def _both(self, turns: Turns) -> bool:
        try:
            text = self._render(turns, None, False, {})
        except CannotRender:
            return False
        return PROBE in text and OTHER in text


def _plain(answer: str = "") -> Turns:
    return [_turn("user", "a"), _turn("assistant", answer)]


def _turn(role: str, content: str | None) -> dict[str, object]:
    return {"role": role, "content": content}


def _thinking(key: str) -> dict[str, object]:
    return _turn("assistant", "a") | ({key: PROBE} if key else {})


def _calling(calls: Calls, id: str, name: str, value: str) -> dict[str, object]:
    arguments = json.dumps({"b": value}) if calls.as_text else {"b": value}
    call = {"type": "function", "function": {"name": name, "arguments": arguments}} | ({"id": id} if id else {})
    return _turn("assistant", calls.empty) | {"tool_calls": [call]}


def _answered_call(calls: Calls | None, id: str) -> Turns:
    """A question, a call and its result, which is the probe word."""
    asked = _calling(calls, id, "f", "c") if calls else _turn("assistant", "f")
    return [_turn("user", "a"), asked, _turn("tool", PROBE) | ({"tool_call_id": id} if id else {})]


def _end(answered: str, added_tokens: Sequence[str]) -> str:
    """What follows an answer up to the last of the added tokens that directly follow the first of them."""
    tail = answered[answered.rfind(PROBE) + len(PROBE) :]
    tokens = sorted(added_tokens, key=len, reverse=True)
    if not tokens:
        return ""
    found = re.search(f"(?:{'|'.join(map(re.escape, tokens))})+", tail)
    return tail[: found.end()] if found else ""
