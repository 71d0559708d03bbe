"""Text that a user typed must stay text: `<|im_end|>` inside a question must not end the turn.

Control tokens in messages are hidden behind private characters before the chat template is applied, and what those
stand for is tokenised as plain text afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

from llm_installer.core.examples import Message
from llm_installer.data.encoding.tokenizer import Tokenizer

Restore: TypeAlias = dict[str, str]
"""Private characters, and the control tokens that they stand for."""

_PRIVATE = 0xF0000
"""Start of a private-use plane of Unicode."""


def control_tokens(tokenizer: Tokenizer) -> list[str]:
    """The special tokens of a tokenizer, the longest first."""
    added = {str(t): t.special for t in tokenizer.added_tokens_decoder.values()}
    return sorted((t for t, special in added.items() if special), key=len, reverse=True)


def hide_control_tokens(
    messages: Sequence[Message], tools: str, control_tokens: Sequence[str]
) -> tuple[tuple[Message, ...], str, Restore]:
    """Messages and tools with typed control tokens replaced by private characters, and what these stand for."""
    texts = [text for m in messages for text in (m.content, m.tool_calls, m.reasoning_content)]
    written = "\0".join([*texts, tools])
    typed = [token for token in control_tokens if token in written]
    if not typed:
        return tuple(messages), tools, {}
    free = (c for c in map(chr, range(_PRIVATE, _PRIVATE + 0xFFFE)) if c not in written)
    restore = dict(zip(free, typed, strict=False))

    def hide(text: str) -> str:
        for stand_in, token in restore.items():
            text = text.replace(token, stand_in)
        return text

    hidden = [
        replace(m, content=hide(m.content), tool_calls=hide(m.tool_calls), reasoning_content=hide(m.reasoning_content))
        for m in messages
    ]
    return tuple(hidden), hide(tools), restore
