"""Example: one conversation or text, whatever its format was; what passes from the readers to the encoder."""

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
    supervised: bool = True
    """False for an assistant turn that is only context; turns of other roles never count in the loss."""
    tool_call_id: str = ""
    """Of a tool's result: the id of the call that it answers."""
    reasoning_content: str = ""
    """The reasoning before an assistant's answer, for chat templates that have a place for it."""


@dataclass(frozen=True, slots=True)
class Example:
    """One conversation or text to train on.

    chat:        turns for the chat template; those of the assistant are trained on where they are `supervised`.
    completion:  a user prompt and an assistant completion, joined without a template; the completion is trained on.
    text:        one assistant message, without a template; all of it is trained on.
    """

    messages: tuple[Message, ...]
    origin: Origin
    kind: Kind = "chat"
    tools: str = ""
    """Tool definitions as the JSON text of an OpenAI-style list, empty when there are none."""
    images: tuple[str, ...] = ()
    """Paths or data: addresses, in the order of the <image> marks in the messages."""
    ends: bool = True
    """False for a piece of a longer text, which no end-of-text token follows; always true for a chat."""

    @property
    def task(self) -> Task:
        """The kind of task, which decides the thresholds for stopping."""
        if self.images:
            return "vision"
        return "instruct" if self.kind == "chat" else "text"

    @property
    def prompt(self) -> str:
        """Everything before the last assistant turn as one string, by which rows of one prompt are recognised."""
        turns = self.messages[:-1] if self.kind != "text" else self.messages
        return "\n".join(f"{m.role}: {m.content}" for m in turns)


@dataclass(frozen=True, slots=True)
class Dropped:
    """A record that is skipped, with the reason in words for the user."""

    origin: Origin
    reason: str
    partly: bool = False
    """Whether only what the reason names is skipped, and the rest is trained on."""
