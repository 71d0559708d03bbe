"""What a run changed, measured with the adapter off and on: losses, each row's loss, and what was forgotten."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from llm_installer.core.examples import Example, Message, Origin
from llm_installer.data.batches import micro_batches
from llm_installer.data.encode import Encoder, Row
from llm_installer.training.trainer import Trainer, row_lengths

MOST_ROWS = 200
"""Of each side: a long run is not made longer by looking at all of its rows."""
Sums = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Pair:
    """One loss of the base and of the tuned model."""

    base: float
    tuned: float

    @property
    def change(self) -> float:
        """Above 0 where the tuned model is worse."""
        return self.tuned - self.base


@dataclass(frozen=True)
class RowLoss:
    """One example's loss per learned token."""

    source: int
    """Its index among the examples of its side."""
    held_out: bool
    base: float
    tuned: float


@dataclass(frozen=True)
class Measured:
    """Everything that was measured after a run."""

    training: Pair
    held_out: Pair | None
    general: Pair
    """On sentences that have nothing to do with the data."""
    sentences: int
    rows: tuple[RowLoss, ...]
    """Of both sides, the worst first."""


def general_sentences() -> list[str]:
    """Plain sentences that any model of English knows how to go on with."""
    return Path(__file__).with_name("general.txt").read_text(encoding="utf-8").splitlines()


def measure(trainer: Trainer, encoder: Encoder, training: Sequence[Row], held_out: Sequence[Row]) -> Measured:
    """Losses of the model as it is now and without its adapter."""
    sentences = general_sentences()
    rows = [_unended(row) for text in sentences for row in encoder.encode(_example(text))]
    learned, learned_rows = _side(trainer, _some(training), held_out=False)
    kept, kept_rows = _side(trainer, _some(held_out), held_out=True) if len(held_out) else (None, [])
    general, _ = _side(trainer, rows, held_out=False)
    worst = sorted([*learned_rows, *kept_rows], key=_badness, reverse=True)
    return Measured(learned, kept, general, len(sentences), tuple(worst))


def _example(text: str) -> Example:
    return Example((Message("assistant", text),), Origin("general.txt"), "text")


def _unended(row: Row) -> Row:
    """Without its end token: learning to end is no language, and would hide what was forgotten."""
    return Row(row.ids[:-1], row.learned[:-1], row.source, row.text)


def _some(rows: Sequence[Row]) -> list[Row]:
    """At most MOST_ROWS of them, from all over."""
    step = max(1, math.ceil(len(rows) / MOST_ROWS))
    return [rows[i] for i in range(0, len(rows), step)]


def _badness(row: RowLoss) -> float:
    return row.tuned if math.isfinite(row.tuned) else math.inf


def _side(trainer: Trainer, rows: Sequence[Row], held_out: bool) -> tuple[Pair, list[RowLoss]]:
    """The loss over all rows, and for each example; the rows of one example are added up."""
    with trainer.model.disable_adapter():
        base = row_losses(trainer, rows)
    tuned = row_losses(trainer, rows)
    tokens = np.array([int(row.learned[1:].sum()) for row in rows], dtype=np.float64)
    sources, of = np.unique([row.source for row in rows], return_inverse=True)
    sums = [np.bincount(of, weights=values, minlength=len(sources)) for values in (base, tuned, tokens)]
    each = zip(sources, sums[0] / sums[2], sums[1] / sums[2], strict=True)
    found = [RowLoss(int(source), held_out, float(before), float(after)) for source, before, after in each]
    return Pair(float(base.sum() / tokens.sum()), float(tuned.sum() / tokens.sum())), found


@torch.no_grad()
def row_losses(trainer: Trainer, rows: Sequence[Row]) -> Sums:
    """The summed loss of each row, in eval mode."""
    trainer.model.eval()
    found = np.zeros(len(rows))
    parts = micro_batches(row_lengths(rows), np.arange(len(rows)), trainer.plan.micro_batch_tokens, len(rows))
    with trainer.head.attached():
        for part in parts:
            batch = trainer.batch(rows, part)
            losses = trainer.loss_sum(batch, reduction="none").double().cpu().numpy()
            found[part] = np.bincount(batch.positions // batch.ids.shape[1], weights=losses, minlength=len(part))
    return found
