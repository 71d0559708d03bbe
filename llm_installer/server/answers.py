"""Answers as they grow: text that may be shown, tool calls that must be held back until they are complete."""

from __future__ import annotations

import json
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from llm_installer.data.encoding.call_forms import CallForm
from llm_installer.data.formats.tools import Call
from llm_installer.inference.engine.request import Reason, Token


@dataclass(frozen=True)
class Tooling:
    """How calls are told from text in an answer."""

    form: CallForm
    known: Collection[str]
    """Names of the tools that the request offers."""
    special: bool = False
    """Whether the text of answers has special tokens, since a call is marked by them."""
    most: int | None = None
    """Calls that may come at once; None: any number."""


@dataclass
class Answer:
    """One answer so far."""

    prompt: int
    """Which prompt of the request it is to."""
    index: int
    """Its place among all answers of the request."""
    tooling: Tooling | None = None
    text: str = ""
    """All that was said, calls included."""
    shown: int = 0
    """Characters of `text` that were given out."""
    tokens: list[Token] = field(default_factory=list)
    calls: tuple[Call, ...] = ()
    reason: Reason | None = None
    made: int = 0
    """Tokens that it took, the one that ended it included."""

    def add(self, text: str) -> str:
        """Some more; returns what is certainly no call and may be shown."""
        self.text += text
        if self.tooling is None:
            self.shown = len(self.text)
            return text
        return self._show(self.tooling.form.may_begin(self.text))

    def end(self, reason: Reason, made: int) -> str:
        """It has ended; returns what was held back and is no call."""
        self.reason, self.made = reason, made
        if self.tooling is None:
            return ""
        said, calls = self.tooling.form.read(self.text, self.tooling.known)
        self.calls = calls[: self.tooling.most]
        more = said[self.shown :]
        self.text, self.shown = said, len(said)
        return more

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
