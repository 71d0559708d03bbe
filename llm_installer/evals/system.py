"""Everything that one system says about the rows: losses, ranks, answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from llm_installer.core.text import visible
from llm_installer.core.voice import Voice
from llm_installer.data.encoding.cutting import cut
from llm_installer.data.encoding.encode import Encoder
from llm_installer.data.encoding.encode_cache import encode
from llm_installer.data.encoding.image_rows import without_long_images
from llm_installer.evals.answering import Said, ask, longest_answer
from llm_installer.evals.items import Item
from llm_installer.evals.losses import row_losses
from llm_installer.evals.ranking import Ranked, choice_row, rank
from llm_installer.evals.statistics import Values
from llm_installer.inference.before_after import question_of
from llm_installer.inference.load import Assistant


@dataclass(frozen=True)
class Limits:
    """How long things may be, in tokens; the same for all systems."""

    positions: int
    """What the model can read."""
    answer: int


@dataclass(frozen=True, eq=False)
class Passed:
    """What one system made of the rows."""

    name: str
    adapter: str
    losses: Values
    """Summed over the supervised tokens of each item, shape [items]; 0 where it has none."""
    tokens: Values
    """How many tokens that is of, shape [items]."""
    said: Said
    """Answers to the items of `answered`."""
    ranks: tuple[Ranked, ...]
    """Of the items of `ranked`."""
    answered: tuple[int, ...]
    """Which items were asked, ascending."""
    ranked: tuple[int, ...]
    refused: int
    """Items that the template refuses, or that are not read whole."""


def limits(encoder: Encoder, items: Sequence[Item], positions: int, wanted: int | None) -> Limits:
    """How long answers may be: as `wanted`, else by the longest reference."""
    return Limits(positions, wanted or longest_answer(encoder, [item for item in items if not item.choices]))


def first_prompt(encoder: Encoder, items: Sequence[Item]) -> str:
    """What the model gets for the first row, special tokens and all; empty where it is plain text."""
    for item in items:
        if item.choices:
            row = choice_row(encoder, item, item.right, 1 << 30)
            return visible(str(encoder.tokenizer.decode([int(i) for i in row.ids[~row.supervised]])), lines=True)
        if item.references and (question := question_of(encoder, item.example)):
            return visible(str(encoder.tokenizer.decode(question.ids)), lines=True)
    return ""


def run_system(name: str, assistant: Assistant, items: Sequence[Item], limit: Limits, voice: Voice) -> Passed:
    """Encode the rows as training does, and compute losses, ranks and answers. Raises ModelError and DataError."""
    model, encoder = assistant.model, assistant.encoder
    examples = [item.example for item in items]
    with voice.progress(f"{name}: losses") as progress:
        encoded, dropped = encode(examples, encoder, lambda done, total: None)
        encoded, long = without_long_images(encoded, examples, limit.positions)
        longer = int(((encoded.lengths > limit.positions) & ~encoded.text).sum())
        rows = cut(encoded, limit.positions)
        sums = row_losses(model, encoder, rows, progress)
    losses = np.bincount(rows.source, weights=sums, minlength=len(items)).astype(np.float64)
    tokens = np.bincount(rows.source, weights=rows.counts, minlength=len(items)).astype(np.float64)
    ranked = tuple(i for i, item in enumerate(items) if item.choices)
    answered = tuple(i for i, item in enumerate(items) if item.references and not item.choices)
    with voice.progress(f"{name}: choices") as progress:
        ranks = rank(model, encoder, [items[i] for i in ranked], limit.positions, progress) if ranked else []
    with voice.progress(f"{name}: answers") as progress:
        asked = [items[i] for i in answered]
        said = ask(model, encoder, asked, (limit.answer, limit.positions), progress)
    refused = len(dropped) + len(long) + longer
    return Passed(name, assistant.adapter, losses, tokens, said, tuple(ranks), answered, ranked, refused)
