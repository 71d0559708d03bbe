"""The chat template of a tokenizer: conversations to text, and which characters of it are supervised.

Spans come from rendering prefixes of the conversation, never from searching for a family's marker strings: the prompt
of a turn is what the template renders for inference, and the answer is what it renders beyond that.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from llm_installer.core.errors import ModelError
from llm_installer.core.examples import Example, Message

DEFAULT_CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '### ' + message['role'] | capitalize + ':\n' + message['content'] }}"
    "{{ eos_token if message['role'] == 'assistant' else '' }}{{ '\n\n' }}"
    "{% endfor %}"
    "{{ '### Assistant:\n' if add_generation_prompt else '' }}"
)
"""For base models that come without one; stored with the adapter, so that chatting uses what training used."""

Turns: TypeAlias = "list[dict[str, object]]"
"""A conversation as templates take it: for each turn its "role", its "content" and what else it has."""
Render: TypeAlias = Callable[[Turns, object, bool], str]
"""Turns, tool definitions and whether to open an answer, to text."""

_PROBE = "qwertz"
_KEYWORDS: tuple[dict[str, object], ...] = ({}, {"enable_thinking": False})
"""Template settings to try: the first under which an answer follows its prompt directly."""


class CannotRender(Exception):
    """The template refuses this conversation; the message says why."""


@dataclass(frozen=True)
class Rendered:
    """A text, and the spans of its characters that are supervised."""

    text: str
    supervised: tuple[tuple[int, int], ...]
    append_eos: bool = False
    """Whether the end-of-text token, supervised too, follows it."""


class Template:
    """A chat template, and what was found out about it: roles it supports, how a turn ends."""

    def __init__(self, render: Callable[..., str], source: str, added_tokens: Sequence[str], eos: str) -> None:
        self._render_raw = render
        self.source = source
        self.keywords = _KEYWORDS[0]
        self.keywords = next((k for k in _KEYWORDS if self._answer_follows_prompt(k)), _KEYWORDS[0])
        self.system = self._keeps([_turn("system", _PROBE), _turn("user", "a")])
        self.tool_role = self._keeps(
            [_turn("user", "a"), {"role": "assistant", "content": "", "tool_calls": _calls("f")}, _turn("tool", _PROBE)]
        )
        self.tool_calls = self._keeps(
            [_turn("user", "a"), {"role": "assistant", "content": "", "tool_calls": _calls(_PROBE)}]
        )
        self.tools = "tools" in source
        self.end = self._end_of_turn(added_tokens)
        """The text that closes an assistant turn; empty when the template has none and eos is appended."""
        self.stop = self.end or eos

    def prompt(self, messages: Sequence[Message], tools: str = "", render: Render | None = None) -> str:
        """What a model is sent to answer `messages`; `render` may replace the template's own.

        Raises CannotRender when the template refuses them.
        """
        turns, definitions = self._adapt(messages, tools)
        return (render or self.render)(turns, definitions, True)

    def rows(self, example: Example, render: Render | None = None) -> list[Rendered]:
        """The training texts of a conversation; `render` may replace the template's own.

        One text for all turns where earlier turns render the same in every prefix and are closed by a token, else one
        per assistant turn. Raises CannotRender when the template refuses it.
        """
        turns, tools = self._adapt(example.messages, example.tools)
        # Adapting may have added or removed a system turn in front of the others.
        spoken = [m.supervised for m in example.messages if m.role != "system"]
        train_on = [True] * (len(turns) - len(spoken)) + spoken
        answers = [i for i, turn in enumerate(turns) if turn["role"] == "assistant" and i and train_on[i]]
        if not answers:
            raise CannotRender("nothing comes before its only answer")
        pieces = [self._answer(turns, i, tools, render or self.render) for i in answers]
        if len(pieces) == 1:
            return pieces
        last = pieces[-1].text
        if self.end and all(last.startswith(p.text[: p.supervised[0][1]]) for p in pieces[:-1]):
            return [Rendered(last, tuple(p.supervised[0] for p in pieces))]
        return pieces

    def _answer(self, turns: Turns, i: int, tools: object, render: Render) -> Rendered:
        """The text up to the end of assistant turn `i`, with that turn's answer as the one supervised span."""
        prompt = render(turns[:i], tools, True)
        whole = render(turns[: i + 1], tools, False)
        if not whole.startswith(prompt):
            whole = prompt + str(turns[i]["content"]).strip() + self.end
        if self.end:
            end = whole.rfind(self.end) + len(self.end)
            if end > len(prompt):
                return Rendered(whole[:end], ((len(prompt), end),))
        whole = whole.rstrip()
        return Rendered(whole, ((len(prompt), len(whole)),), append_eos=True)

    def _adapt(self, messages: Sequence[Message], tools: str) -> tuple[Turns, object]:
        """Messages and tool definitions as the template takes them: what it has no role for becomes text in another."""
        system = "\n\n".join(m.content for m in messages if m.role == "system")
        if tools and not self.tools:
            system = "\n\n".join(filter(None, [system, f"You can call these tools:\n{tools}"]))
        turns = [self._adapt_turn(m) for m in messages if m.role != "system"]
        if system and self.system:
            turns.insert(0, _turn("system", system))
        elif system:
            first = next((t for t in turns if t["role"] == "user"), None)
            if first is None:
                raise CannotRender("its chat template has no system role and there is no user turn to put the text in")
            first["content"] = f"{system}\n\n{first['content']}"
        return turns, (json.loads(tools) if tools and self.tools else None)

    def _adapt_turn(self, message: Message) -> dict[str, object]:
        turn = _turn(message.role, message.content)
        if message.reasoning_content:
            turn["reasoning_content"] = message.reasoning_content
        if message.tool_calls and self.tool_calls:
            return turn | {"tool_calls": json.loads(message.tool_calls)}
        if message.tool_calls:
            return turn | {"content": "\n".join(filter(None, [message.content, message.tool_calls]))}
        if message.role == "tool" and not self.tool_role:
            return _turn("user", message.content)
        return turn | {"tool_call_id": message.tool_call_id} if message.tool_call_id else turn

    def render(self, turns: Turns, tools: object, generation: bool) -> str:
        """The text of these turns, and the opening of an answer where `generation`. Raises CannotRender."""
        from jinja2 import TemplateError

        try:
            return self._render_raw(turns, tools=tools, add_generation_prompt=generation, **self.keywords)
        except (TemplateError, TypeError, KeyError) as error:
            raise CannotRender(f"its chat template refuses the conversation ({error})") from None

    def _answer_follows_prompt(self, keywords: Mapping[str, object]) -> bool:
        self.keywords = dict(keywords)
        turns = [_turn("user", "a"), _turn("assistant", _PROBE)]
        try:
            prompt = self.render(turns[:1], None, True)
            return self.render(turns, None, False).startswith(prompt + _PROBE)
        except CannotRender:
            return False

    def _keeps(self, turns: Turns) -> bool:
        """Whether the template accepts these turns and shows the probe word in them."""
        try:
            return _PROBE in self.render(turns, None, False)
        except CannotRender:
            return False

    def _end_of_turn(self, added_tokens: Sequence[str]) -> str:
        """What follows an answer, up to and including the first of the tokenizer's added tokens."""
        try:
            text = self.render([_turn("user", "a"), _turn("assistant", _PROBE)], None, False)
        except CannotRender as error:
            raise ModelError(f"The model's chat template does not work: {error}; give the model another one") from None
        tail = text[text.rfind(_PROBE) + len(_PROBE) :]
        found = [(tail.find(token), len(token)) for token in added_tokens if token in tail]
        if not found:
            return ""
        start, length = min(found, key=lambda f: (f[0], -f[1]))
        return tail[: start + length]


def _turn(role: str, content: str) -> dict[str, object]:
    return {"role": role, "content": content}


def _calls(name: str) -> Turns:
    return [{"id": "call00001", "type": "function", "function": {"name": name, "arguments": {}}}]
