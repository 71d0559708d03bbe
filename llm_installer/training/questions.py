"""What base and tuned model answer at the end of a run: to questions from its data, and to the user's own."""

from __future__ import annotations

from collections.abc import Sequence

from llm_installer.core.examples import Example
from llm_installer.data.encoding.encode import Encoder
from llm_installer.inference.before_after import Comparison, compare, different
from llm_installer.training.trainer import Trainer

__all__ = ["Comparison", "before_after"]
QUESTIONS = 8
"""From the data; the user's own comes after them."""


def before_after(
    trainer: Trainer, encoder: Encoder, examples: Sequence[Example], own: str | None = None
) -> list[Comparison]:
    """Answers to the last question of some examples, which differ, and to `own`."""
    return compare(trainer.model, encoder, different(examples, QUESTIONS), own)
