"""One conversation with its format forgotten: the currency between readers and encoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Role = Literal["system", "user", "assistant", "tool"]
Kind = Literal["chat", "completion", "text"]
Task = Literal["instruct", "text", "vision"]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an example came from: a file and a 1-based line, or a 1-based record where lines mean nothing."""

    file: str
    line: int = 0
    record: int = 0

    def __str__(self) -> str:
        if self.line:
            return f"{self.file}:{self.line}"
        return f"{self.file} record {self.record}" if self.record else self.file


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. `tool_calls` is the JSON text of an OpenAI-style list, empty when there are none."""

    role: Role
    content: str
    tool_calls: str = ""
    learn: bool = True
    """False for an assistant turn that is only context."""
    tool_call_id: str = ""
    """Of a tool's result: the call that it answers."""
    reasoning_content: str = ""
    """What an assistant thought before it answered, for chat templates that know a place for it."""


@dataclass(frozen=True, slots=True)
class Example:
    """One thing to learn.

    chat:        turns for the chat template; the assistant's are learned where they say so.
    completion:  (user prompt, assistant completion), joined as they are, no template; the completion is learned.
    text:        one assistant message, no template; everything is learned.
    """

    messages: tuple[Message, ...]
    origin: Origin
    kind: Kind = "chat"
    tools: str = ""
    images: tuple[str, ...] = ()
    ends: bool = True
    """False for a piece of a longer text that goes on after it; what is no chat only."""

    @property
    def task(self) -> Task:
        """The kind of learning, which decides the stop thresholds."""
        if self.images:
            return "vision"
        return "instruct" if self.kind == "chat" else "text"

    @property
    def prompt(self) -> str:
        """Everything before the last assistant turn, as one string: what copies are recognised by."""
        turns = self.messages[:-1] if self.kind != "text" else self.messages
        return "\n".join(f"{m.role}: {m.content}" for m in turns)


@dataclass(frozen=True, slots=True)
class Dropped:
    """A record that was left out, and why, in words for the user."""

    origin: Origin
    reason: str
