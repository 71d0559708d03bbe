"""The course of a run: its length in steps, its batch size, its learning-rate schedule, its evaluations and its end."""

from __future__ import annotations

from dataclasses import dataclass

from llm_installer.planning.stopping import Limits

EARLY = 0.4
"""Share of a run that counts as its beginning, where a mode evaluates more often at first."""


@dataclass(frozen=True, kw_only=True)
class Course:
    """What the plan says about time."""

    epochs: float
    """Passes over the data; infinite where only the user ends the run."""
    effective_batch_size: int
    """Rows per optimizer step, in the first cycle where the batch grows."""
    batch_multiplier: float = 0.0
    """How the batch grows from cycle to cycle (planning.growth.cycle_batch); 0 where it does not."""
    schedule: str
    """A name of planning.schedule.SCHEDULES."""
    total_steps: int
    """Optimizer steps; 0 where the run has no end of its own."""
    warmup_steps: int
    """Steps over which the learning rate rises."""
    evaluation_every: int
    """Steps between evaluations."""
    early_evaluation_every: int = 0
    """Steps between evaluations at the beginning, where that differs; else 0."""
    evaluation_rows: int
    """Rows of each of the two evaluation sets."""
    limits: Limits
    stop_rules: tuple[str, ...]
    """Names of planning.stopping.STOP_RULES, in the order in which they are asked."""

    def evaluation_due(self, before: int, done: int) -> bool:
        """Whether an evaluation falls due with the planned steps from `before` to `done`.

        The last step of a run is evaluated anyway; shortly before it there is nothing else to see.
        """
        early = self.early_evaluation_every and done <= self.total_steps * EARLY
        every = self.early_evaluation_every if early else self.evaluation_every
        near = 0 < self.total_steps - done < every / 2
        return done // every > before // every and not near
