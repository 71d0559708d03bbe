"""Greedy answers to the rows, by the generator that chat uses: rows of about one length go together."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from llm_installer.core.voice import Progress
from llm_installer.data.encoding.encode import Encoder
from llm_installer.evals.items import Item
from llm_installer.inference.before_after import Question, question_of
from llm_installer.inference.generate import Answer, Model, Sampling, answers

AT_ONCE = 16
LONGER = 2
"""The longest answer has so many times the tokens of the longest reference."""


@dataclass(frozen=True)
class Said:
    """What a model answered."""

    answers: tuple[Answer | None, ...]
    """One for each item; None where the template refuses the question, or it leaves no room for an answer."""
    seconds: float

    @property
    def given(self) -> list[Answer]:
        """Those that there are."""
        return [one for one in self.answers if one is not None]

    @property
    def speed(self) -> float:
        """Tokens per second, with the reading of the questions."""
        return sum(one.tokens for one in self.given) / max(self.seconds, 1e-9)


def longest_answer(encoder: Encoder, items: Sequence[Item]) -> int:
    """How many tokens an answer may have: LONGER times those of the longest reference, with its end."""
    texts = {text for item in items for text in item.references}
    tokens = max((len(encoder.tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts), default=0)
    return LONGER * (tokens + 1)


def ask(
    model: Model,
    encoder: Encoder,
    items: Sequence[Item],
    limits: tuple[int, int],
    progress: Progress = lambda done, total: None,
) -> Said:
    """Ask a model the question of each item. `limits` are the tokens of an answer, and those that the model can read
    with it. A batched answer is the one that the question would get alone."""
    most, positions = limits
    found: list[Answer | None] = [None] * len(items)
    asked = [
        (number, question) for number, item in enumerate(items) if (question := question_of(encoder, item.example))
    ]
    asked = sorted(((n, q) for n, q in asked if len(q.ids) < positions), key=lambda one: len(one[1].ids))
    begun, done = time.perf_counter(), 0
    for part in _parts([question for _, question in asked], most, positions):
        some = [asked[i] for i in part]
        room = min(most, positions - max(len(question.ids) for _, question in some))
        ids, images = [question.ids for _, question in some], [question.images for _, question in some]
        for (number, _), one in zip(some, answers(model, encoder, ids, Sampling(room), AT_ONCE, images), strict=True):
            found[number] = one
        done += len(some)
        progress(done, len(asked))
    return Said(tuple(found), time.perf_counter() - begun)


def _parts(questions: Sequence[Question], most: int, positions: int) -> list[range]:
    """Which questions go together: AT_ONCE of them, but each alone that leaves less room than `most`."""
    parts: list[range] = []
    start = 0
    roomy = sum(len(question.ids) + most <= positions for question in questions)
    while start < len(questions):
        size = min(AT_ONCE, roomy - start) if start < roomy else 1
        parts.append(range(start, start + size))
        start += size
    return parts
