"""Text that a user typed must stay text: `<|im_end|>` inside a question must not end the turn.

Control tokens in messages are hidden behind private characters before the chat template is applied, and what those
stand for is tokenised as plain text afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from llm_installer.core.examples import Message
from llm_installer.data.encoding.tokenizer import Tokenizer

Restore: TypeAlias = dict[str, str]
"""Private characters, and the control tokens that they stand for."""

_PRIVATE = 0xF0000
"""Start of a private-use plane of Unicode."""
_PART_OF_AN_ANSWER = re.compile("think|tool.?call")
"""Marks that a model writes itself: those of its thoughts and calls."""


@dataclass(frozen=True)
class ControlTokens:
    """The tokens of a tokenizer that mean something to the model, which typed text must not contain."""

    asked: tuple[str, ...]
    """In questions, system texts, results and arguments of calls; the longest first."""
    answered: tuple[str, ...]
    """In answers, which may write the marks of thoughts and calls; the longest first."""


def control_tokens(tokenizer: Tokenizer, around: str) -> ControlTokens:
    """Every special token, and every added token in `around`, which is what the chat template writes around contents.

    Some models mark a turn by tokens that their tokenizer does not call special.
    """
    added = {str(t): t.special for t in tokenizer.added_tokens_decoder.values()}
    asked = sorted((t for t, special in added.items() if special or t in around), key=len, reverse=True)
    return ControlTokens(tuple(asked), tuple(t for t in asked if not _PART_OF_AN_ANSWER.search(t)))


def hide_control_tokens(
    messages: Sequence[Message], tools: str, control: ControlTokens
) -> tuple[tuple[Message, ...], str, Restore]:
    """Messages and tools with typed control tokens replaced by private characters, and what these stand for."""
    asked = "\0".join(
        [*(m.content for m in messages if m.role != "assistant"), *(m.tool_calls for m in messages), tools]
    )
    answered = "\0".join([m.content + "\0" + m.reasoning_content for m in messages if m.role == "assistant"])
    written = asked + answered
    typed = [t for t in control.asked if t in written and (t in asked or t in control.answered)]
    if not typed:
        return tuple(messages), tools, {}
    free = (c for c in map(chr, range(_PRIVATE, _PRIVATE + 0xFFFE)) if c not in written)
    restore = dict(zip(free, typed, strict=False))

    def hide(text: str, answer: bool = False) -> str:
        for stand_in, token in restore.items():
            if not answer or token in control.answered:
                text = text.replace(token, stand_in)
        return text

    hidden = [
        replace(
            m,
            content=hide(m.content, m.role == "assistant"),
            tool_calls=hide(m.tool_calls),
            reasoning_content=hide(m.reasoning_content, answer=True),
        )
        for m in messages
    ]
    return tuple(hidden), hide(tools), restore
