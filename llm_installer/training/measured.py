"""One evaluation of some rows, group by group, and how much of a change in it is the choice of these rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from llm_installer.core.changes import STANDARD_ERRORS
from llm_installer.data.encoding.row import Row
from llm_installer.training.memory_probe import backing_off
from llm_installer.training.trainer import Sums, Trainer, row_lengths

GROUPS = 8
"""Into which validation rows are divided: what differs between them says how far their mean can be trusted. Rows by
themselves would say more, but their losses cannot be fused."""


@dataclass(frozen=True)
class Measured:
    """Summed losses in nats and supervised tokens of groups of rows."""

    sums: Sums
    tokens: Sums

    @property
    def loss(self) -> float:
        """Mean loss per supervised token."""
        return float(self.sums.sum() / self.tokens.sum())

    def noise(self, before: Sequence[float]) -> float:
        """Up to which the loss may differ from that of an earlier evaluation, whose sums were these, by the choice of
        rows; 0 where that is not known."""
        if len(before) != len(self.sums) or not np.isfinite([*before, *self.sums]).all():
            return 0.0
        found = STANDARD_ERRORS * standard_error(self.sums - np.asarray(before), self.tokens)
        return found if math.isfinite(found) else 0.0


def measure(trainer: Trainer, rows: Sequence[Row], say: Callable[[str], None], groups: int = 1) -> Measured:
    """Evaluate the rows in so many groups, in smaller parts where memory runs out."""
    lengths, of = row_lengths(rows), grouped(rows, groups)
    sums = backing_off(
        trainer, lambda: trainer.summed_losses(rows, of), size=int(lengths.sum()), longest=int(lengths.max()), say=say
    )
    tokens = [float(row.supervised[1:].sum()) for row in rows]
    return Measured(sums, np.bincount(of, weights=tokens).astype(np.float64))


def grouped(rows: Sequence[Row], groups: int) -> npt.NDArray[np.int64]:
    """The group of each row: those of one example are no independent ones, and belong to the same."""
    _, of = np.unique([row.source for row in rows], return_inverse=True)
    return of % groups


def standard_error(rises: Sums, tokens: Sums) -> float:
    """That of sum(rises) / sum(tokens), the ratio estimate of a clustered sample (Cochran, Sampling Techniques, 1977,
    section 6.3); infinite for a single cluster."""
    count = int((tokens > 0).sum())
    apart = rises - tokens * rises.sum() / tokens.sum()
    return math.sqrt(count / (count - 1) * float((apart**2).sum())) / float(tokens.sum()) if count > 1 else math.inf
