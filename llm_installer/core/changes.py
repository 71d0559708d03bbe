"""What a run changed, as numbers: losses of the base and of the tuned model on the same rows."""

from __future__ import annotations

import math
from dataclasses import dataclass

STANDARD_ERRORS = 2.0
"""How many of them are noise: a change beyond has a probability of about 5 % where there is none."""
CLEARLY = 1.25
"""How many times what was learned a run must forget to have forgotten more. The two are losses on different texts; a
run that goes over from one kind of text to another loses about what it gains: stories260K on lines of Shakespeare 2.5
for 2.2."""
FORGOTTEN = 0.1
"""Rise of the loss per token up to which nothing was forgotten: 10 % in perplexity."""


@dataclass(frozen=True)
class Pair:
    """One loss of the base and of the tuned model, in nats per supervised token."""

    base: float
    tuned: float
    rows: int
    """On which both were evaluated."""
    error: float = 0.0
    """Standard error of the change over the rows, each compared with itself; infinite for a single row."""

    @property
    def change(self) -> float:
        """Above 0 where the tuned model is worse."""
        return self.tuned - self.base

    @property
    def noise(self) -> float:
        """Up to which a change may be the choice of rows, in nats per token."""
        return STANDARD_ERRORS * self.error

    def rises_more(self, other: Pair) -> bool:
        """Whether this loss clearly rose by more than the other fell, beyond the noise of both."""
        return self.change + CLEARLY * min(0.0, other.change) > self._noise_beside(other)

    def rises_less(self, other: Pair) -> bool:
        """Whether it rose by less than the other fell, beyond the noise of both."""
        return self.change + other.change < -self._noise_beside(other)

    def _noise_beside(self, other: Pair) -> float:
        return STANDARD_ERRORS * math.hypot(self.error, other.error)


@dataclass(frozen=True)
class RowLoss:
    """One example's loss per supervised token."""

    source: int
    """Its index among the training or the validation examples."""
    validation: bool
    base: float
    tuned: float


@dataclass(frozen=True)
class Changes:
    """Everything that is evaluated after a run."""

    training: Pair
    validation: Pair | None
    general: Pair
    """On sentences that have nothing to do with the data."""
    rows: tuple[RowLoss, ...]
    """Of training and validation, the worst first."""
    own: Pair | None = None
    """On text that the base wrote."""
    no_own: str = ""
    """Why there is none, as the end of a sentence."""
    unrounded: Pair | None = None
    """On the rows of every evaluation (validation, else training), with the base as published, where it was held in
    float8; None where it was not, or memory holds it only so."""

    def learned(self, memorising: bool = False) -> Pair:
        """On what the run was to learn: validation rows, and where there are none, or it was `memorising`, training
        rows."""
        return self.training if memorising or self.validation is None else self.validation
