"""The state of a run: plain and JSON-able, so that it can be resumed, reported and tested with numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llm_installer.core.speed import Speed


@dataclass(frozen=True)
class Evaluation:
    """The losses on both fixed evaluation sets, in eval mode."""

    step: int
    epoch: float
    train_loss: float
    """Mean loss per supervised token, in nats, on the fixed slice of the training set."""
    validation_loss: float | None
    """The same on the validation set; None where there is none."""
    learning_rate: float
    grad_norm: float
    tokens_per_second: float
    seconds: float
    """Since the run began."""
    noise: float = 0.0
    """Up to which the validation loss may differ from the best so far by the choice of rows; 0 where that is not
    known."""


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


@dataclass(frozen=True)
class Adjustment:
    """What a controller changes between two evaluations, and why."""

    step: int
    rate_scale: float
    """Multiple of the planned learning rate from now on."""
    batch_scale: int
    """Planned steps whose rows make up one step from now on."""
    restore_best: bool
    """Go back to the best weights (the initial ones where none beat the base), with a new optimizer state."""
    why: str


@dataclass
class RunState:
    """The only mutable record of a run: with the weights and the random state, all that resuming needs."""

    step: int = 0
    """Optimizer steps taken, skipped ones included."""
    done: int = 0
    """Planned steps completed; more than `step` where an adjustment joined several."""
    epoch: float = 0.0
    epoch_index: int = 0
    """Epochs that are complete."""
    epoch_offset: int = 0
    """Planned steps of the present epoch that are done."""
    tokens: int = 0
    seconds: float = 0.0
    """Spent in the loop, over all sessions."""
    best_step: int = 0
    best_loss: float | None = None
    base_loss: float | None = None
    """The monitored loss before the first step."""
    best_sums: list[float] = field(default_factory=list)
    """The summed losses of groups of validation rows at the best evaluation."""
    evaluations_without_improvement: float = 0
    """In a row. One that is worse by no more than its noise counts half."""
    skipped: int = 0
    """Steps whose loss or gradient was not finite."""
    skipped_in_a_row: int = 0
    rate_scale: float = 1.0
    batch_scale: int = 1
    adjustments: list[Adjustment] = field(default_factory=list)
    history: list[Evaluation] = field(default_factory=list)
    stop_reason: str = ""
    phases: dict[str, float] = field(default_factory=dict)
    """Seconds of each phase (core/speed.py), over all sessions."""
    memorising: bool = False
    """Whether the loss on training rows is monitored even where there are validation rows."""

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> RunState:
        """The state that dataclasses.asdict made, read back from strict JSON (where NaN became null)."""
        history = [Evaluation(**{**e, **_numbers(e)}) for e in values["history"]]
        adjustments = [Adjustment(**a) for a in values["adjustments"]]
        return cls(**{**values, "history": history, "adjustments": adjustments})

    @property
    def improved(self) -> bool:
        """Whether the best evaluation beats the one before the first step."""
        return self.best_loss is not None and (self.base_loss is None or self.best_loss < self.base_loss)

    def monitored(self, evaluation: Evaluation) -> float:
        """The loss that decides which evaluation is the best."""
        unseen = evaluation.validation_loss
        return evaluation.train_loss if self.memorising or unseen is None else unseen

    def record(self, evaluation: Evaluation) -> bool:
        """Add an evaluation; True when it is the best after the first step. Step 0 is the base model itself."""
        self.history.append(evaluation)
        monitored = self.monitored(evaluation)
        if evaluation.step == 0:
            self.base_loss = monitored
            return False
        if math.isfinite(monitored) and (self.best_loss is None or monitored < self.best_loss):
            self.best_loss, self.best_step = monitored, evaluation.step
            self.evaluations_without_improvement = 0
            return True
        self.evaluations_without_improvement += 0.5 if self.uncertain else 1
        return False

    @property
    def uncertain(self) -> bool:
        """Whether the last evaluation is worse than the best, but by no more than its noise."""
        if not self.history or self.best_loss is None:
            return False
        return 0 < self.monitored(self.history[-1]) - self.best_loss <= self.history[-1].noise


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
    """False when no evaluation beat the base model; `lora` is then left as it was."""
    speed: Speed | None = None


def _numbers(evaluation: dict[str, Any]) -> dict[str, float]:
    """The fields that are always numbers, with NaN where JSON holds null."""
    names = ("train_loss", "learning_rate", "grad_norm", "tokens_per_second")
    return {name: math.nan if evaluation[name] is None else evaluation[name] for name in names}
