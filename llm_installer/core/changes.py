"""What a run changed, as numbers: losses of the base and of the tuned model on the same rows."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Pair:
    """One loss of the base and of the tuned model, in nats per supervised token."""

    base: float
    tuned: float
    rows: int
    """On which both were evaluated."""

    @property
    def change(self) -> float:
        """Above 0 where the tuned model is worse."""
        return self.tuned - self.base


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
