"""What a run has measured so far. Plain and JSON-able, so that it can be resumed, reported and tested with numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Evaluation:
    """One measurement of both fixed evaluation sets, in eval mode."""

    step: int
    epoch: float
    train_loss: float
    """Mean loss per supervised token on the fixed slice of the training set."""
    validation_loss: float | None
    """The same on the validation set; None where there is none."""
    learning_rate: float
    grad_norm: float
    tokens_per_second: float
    seconds: float
    """Since the run began."""


@dataclass(frozen=True)
class StepReport:
    """One optimizer step, for the reporters."""

    step: int
    epoch: float
    loss: float
    learning_rate: float
    grad_norm: float
    tokens: int
    seconds: float


@dataclass
class RunState:
    """The only mutable record of a run."""

    step: int = 0
    epoch: float = 0.0
    tokens: int = 0
    best_step: int = 0
    best_loss: float | None = None
    base_loss: float | None = None
    """The watched loss before the first step."""
    evaluations_without_improvement: int = 0
    history: list[Evaluation] = field(default_factory=list)
    stop_reason: str = ""

    def record(self, evaluation: Evaluation) -> bool:
        """Add a measurement; True when it is the best after the first step. Step 0 is the base model itself."""
        self.history.append(evaluation)
        watched = evaluation.validation_loss if evaluation.validation_loss is not None else evaluation.train_loss
        if evaluation.step == 0:
            self.base_loss = watched
            return False
        if math.isfinite(watched) and (self.best_loss is None or watched < self.best_loss):
            self.best_loss, self.best_step = watched, evaluation.step
            self.evaluations_without_improvement = 0
            return True
        self.evaluations_without_improvement += 1
        return False


@dataclass(frozen=True)
class Result:
    """How a run ended."""

    run: Path
    adapter: Path
    steps: int
    best_step: int
    base_loss: float | None
    best_loss: float | None
    stop_reason: str
    improved: bool
    """False when no measurement beat the base model; `lora` is then left as it was."""
