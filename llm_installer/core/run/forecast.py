"""How long a run will take, as training/timing.py predicted it, in numbers and words; and what it took in the end."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from llm_installer.core.files import finite, write_json
from llm_installer.core.json_file import read_fields
from llm_installer.core.paths import Run
from llm_installer.core.run.history import bounds
from llm_installer.core.text import duration, span

TRUSTED = 5
"""Steps in the run that count as much as those that were timed before it, or more where evaluations are rarer."""


@dataclass(frozen=True)
class Forecast:
    """How long a run will take. All times are seconds."""

    step: float
    """Of one optimizer step, on average over those that are left."""
    evaluation: float
    """Of one evaluation of both sets."""
    steps: int
    """Steps that are left; those of one epoch where the run has no end."""
    evaluations: int
    """Evaluations among them, the one before the first step too."""
    after: float
    """From the last step to the end: publishing and comparing."""
    before: float = 0.0
    """What earlier sessions took."""
    early: bool = False
    """Whether a stop rule may end the run earlier."""
    endless: bool = False
    past: tuple[float, ...] = ()
    """What earlier trainings like this one took on this machine, over what was predicted of them."""

    @property
    def loop(self) -> float:
        """All steps and evaluations that are left."""
        return self.steps * self.step + self.evaluations * self.evaluation

    @property
    def total(self) -> float:
        """The run with what earlier sessions took; one epoch where it has no end."""
        return self.loop if self.endless else self.before + self.loop + self.after

    @property
    def range(self) -> str:
        """The total in words: "about 4 to 6 minutes", "about 5 minutes an epoch"."""
        return f"about {span(*bounds(self.total, self.past))}{' an epoch' if self.endless else ''}"

    def said(self) -> str:
        """A line before the first step."""
        why = ", less where it stops early" if self.early else ", until you stop it" if self.endless else ""
        return f"Time: {self.range}{why}; one evaluation takes {duration(self.evaluation)}."

    def remaining(self, left: int, done: int, seconds: float) -> float:
        """Seconds of `left` steps and their evaluations, where `done` steps of this session took so many `seconds`:
        what was timed before counts less the more steps are done."""
        trusted = max(TRUSTED, self.steps / max(1, self.evaluations))
        planned = self.loop / max(1, self.steps)
        return left * (trusted * planned + seconds) / (trusted + done)


@dataclass(frozen=True)
class Duration:
    """What was predicted of a run, and what happened: duration.json of its folder."""

    predicted_seconds: float
    """Of all steps that were planned, or of an epoch of a run without an end; with comparing base and tuned model."""
    predicted: str
    """The same in words."""
    predicted_step_seconds: float
    predicted_evaluation_seconds: float
    took_seconds: float | None = None
    """None until the run has ended well."""
    step_seconds: float | None = None
    evaluation_seconds: float | None = None

    @classmethod
    def planned(cls, forecast: Forecast) -> Duration:
        """Before the first step."""
        return cls(forecast.total, forecast.range, forecast.step, forecast.evaluation)

    def said(self) -> str:
        """A line for the report; empty where the run has not ended."""
        took = self.took_seconds
        return f"Predicted {self.predicted}, took {duration(took)}." if took is not None else ""

    def write(self, run: Run) -> None:
        """Write it to the run's folder. Raises OSError."""
        write_json(run.duration, finite(dataclasses.asdict(self)))

    @classmethod
    def read(cls, run: Run) -> Duration | None:
        """What is in the run's folder; None where there is nothing, or nothing readable."""
        return read_fields(cls, run.duration)
