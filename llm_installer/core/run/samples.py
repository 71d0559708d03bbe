"""What the model answers to the user's own prompts in the middle of a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

ANSWER_TOKENS = 64
"""Most tokens of an answer."""


@dataclass(frozen=True)
class Sample:
    """A prompt and its answer."""

    prompt: str
    answer: str
    ended: bool
    """Whether it ended by itself rather than at the length limit."""


Ask = Callable[[], Sequence[Sample]]
"""Answers the user's prompts with the present weights. Raises OSError where that is impossible."""
