"""Answers as they grow: thoughts and text that may be shown, tool calls that are held back until they are complete."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from llm_installer.data.encoding.call_forms import CallForm, Tools
from llm_installer.data.encoding.thought_forms import ThoughtForm
from llm_installer.data.formats.tools import Call
from llm_installer.inference.engine.request import Reason, Token
from llm_installer.server.thoughts import Apart


@dataclass(frozen=True)
class Tooling:
    """How calls are told from text in an answer."""

    form: CallForm
    known: Tools
    """The tools that the request offers."""
    most: int | None = None
    """Calls that may come at once; None: any number."""


@dataclass(frozen=True)
class Forms:
    """What is told from text in the answers to a request."""

    tooling: Tooling | None = None
    thoughts: ThoughtForm | None = None
    opened: bool = False
    """The prompt ends within a thought."""
    special: bool = False
    """The text of answers has special tokens, since what is told from it is marked by them."""

    @property
    def marks(self) -> str:
        """All that marks it."""
        calls, thoughts = self.tooling, self.thoughts
        return (calls.form.marks if calls else "") + (
            f"{thoughts.before}{thoughts.after}{thoughts.head}" if thoughts else ""
        )


class Said(NamedTuple):
    """What may be shown of an answer now."""

    text: str = ""
    thought: str = ""


@dataclass
class Answer:
    """One answer so far."""

    prompt: int
    """Which prompt of the request it is to."""
    index: int
    """Its place among all answers of the request."""
    forms: Forms = field(default_factory=Forms)
    text: str = ""
    """All that was said behind the thought, calls included."""
    thought: str = ""
    shown: int = 0
    """Characters of `text` that were given out."""
    tokens: list[Token] = field(default_factory=list)
    calls: tuple[Call, ...] = ()
    reason: Reason | None = None
    made: int = 0
    """Tokens that it took, the one that ended it included."""

    def __post_init__(self) -> None:
        self._apart = Apart(self.forms.thoughts, self.forms.opened) if self.forms.thoughts else None

    def add(self, text: str) -> Said:
        """Some more; returns what is certainly no call and may be shown."""
        thought, said = self._apart.add(text) if self._apart else ("", text)
        return self._grown(thought, said)

    def end(self, reason: Reason, made: int) -> Said:
        """It has ended; returns what was held back and is no call."""
        self.reason, self.made = reason, made
        more = self._grown(*self._apart.end()) if self._apart else Said()
        tooling = self.forms.tooling
        if tooling is None:
            return more
        said, calls = tooling.form.read(self.text, tooling.known)
        self.calls = calls[: tooling.most]
        left = said[self.shown :]
        self.text, self.shown = said, len(said)
        return Said(more.text + left, more.thought)

    def _grown(self, thought: str, said: str) -> Said:
        self.thought += thought
        self.text += said
        tooling = self.forms.tooling
        return Said(self._show(tooling.form.may_begin(self.text) if tooling else len(self.text)), thought)

    @property
    def finish(self) -> str:
        """Why it ended, in the API's words."""
        if self.calls:
            return "tool_calls"
        return "length" if self.reason == "length" else "stop"

    def _show(self, until: int) -> str:
        more = self.text[self.shown : until]
        self.shown = max(self.shown, until)
        return more


def written_calls(calls: Sequence[Call]) -> list[dict[str, object]]:
    """Calls as the API has them: with ids, and arguments as JSON text."""
    return [_written(call["function"]) for call in calls]


def _written(function: object) -> dict[str, object]:
    assert isinstance(function, Mapping)
    arguments = function["arguments"]
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return {
        "id": f"call_{secrets.token_hex(12)}",
        "type": "function",
        "function": {"name": str(function["name"]), "arguments": text},
    }
