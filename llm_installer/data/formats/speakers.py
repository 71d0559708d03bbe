"""Who speaks in a turn, in every spelling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from llm_installer.core.examples import Role

_ROLES: Mapping[Role | Literal["call"], tuple[str, ...]] = {
    "system": ("system", "developer"),
    "user": ("user", "human", "prompter"),
    "assistant": ("assistant", "gpt", "model", "bot", "chatgpt", "bard", "bing", "claude"),
    "tool": ("tool", "function", "observation", "ipython", "tool_response", "function_response", "tool_result"),
    "call": ("function_call", "tool_call"),
}
ROLES = {name: role for role, names in _ROLES.items() for name in names}
"""The role of each name."""
PAIRS = (
    ("user", "assistant"),
    ("human", "assistant"),
    ("Human", "Assistant"),
    ("human", "gpt"),
    ("input", "output"),
    ("prompt", "response"),
    ("query", "response"),
    ("question", "answer"),
    ("instruction", "output"),
)
"""Keys of both sides of an exchange, where one turn holds both."""
SPEAKER = ("role", "from")
"""Keys that say who speaks."""
SAID = ("content", "value", "text")
"""Keys of what is said."""


def is_answer(item: Mapping[str, object]) -> bool:
    """Whether the assistant speaks in a turn."""
    return _role(item) in ("assistant", "call")


def is_result(item: Mapping[str, object]) -> bool:
    """Whether a turn is what a tool gave back."""
    return _role(item) == "tool"


def _role(item: Mapping[str, object]) -> str | None:
    speaker = next((value for key, value in item.items() if key.lower() in SPEAKER), None)
    return ROLES.get(speaker.strip().lower()) if isinstance(speaker, str) else None
