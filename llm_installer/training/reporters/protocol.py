"""What every reporter is told, and the facts about a run that it may show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from llm_installer.core.paths import ModelDir, Run
from llm_installer.core.state import Evaluation, Result, RunState, StepReport


@dataclass(frozen=True)
class RunHeader:
    """What is known about a run before its first step."""

    model: str
    method: str
    mode: str
    run: Run
    model_dir: ModelDir
    total_steps: int
    """Where the run ends if nothing stops it earlier; 0 when only a stop rule or the user ends it."""
    epochs: float
    patience: int
    """Evaluations without improvement that end the run; 0 when that is no reason to stop."""
    perplexity: bool
    """Show exp(loss) too, as is usual for plain text."""
    rows: int
    validation_rows: int
    start_step: int = 0
    """Steps that were done before: not 0 when a stopped run goes on in its own folder."""


Moment = Literal["epoch begin", "epoch end", "step begin", "save", "saved"]
"""What else happens in a run. "save" comes before a checkpoint is written: what was told until then must be on disk,
for a run that goes on from there does not tell it again. "saved" comes after it."""


@dataclass(frozen=True)
class Sample:
    """What the model answers to one of the user's prompts in the middle of a run."""

    prompt: str
    answer: str
    ended: bool
    """Whether it ended by itself rather than at the length limit."""


@runtime_checkable
class Attentive(Protocol):
    """A reporter that also wants to hear of moments."""

    def on_moment(self, moment: Moment, state: RunState) -> None:
        """Something happened."""


@runtime_checkable
class Quoting(Protocol):
    """A reporter that also wants to hear what the model answers."""

    def on_samples(self, evaluation: Evaluation, samples: Sequence[Sample]) -> None:
        """The answers of the weights that were just measured."""


@runtime_checkable
class Linked(Protocol):
    """A reporter that shows the run at an address, once it has started."""

    @property
    def url(self) -> str:
        """Where to look; empty where there is no address."""


class Reporter(Protocol):
    """Someone who is told what a run does. An OSError turns a reporter off; it never ends the run."""

    def on_start(self, header: RunHeader) -> None:
        """The run begins."""

    def on_step(self, report: StepReport) -> None:
        """One optimizer step is done. Its tokens and seconds are those of this step alone."""

    def on_evaluation(self, evaluation: Evaluation, state: RunState, best: bool) -> None:
        """A measurement was made; `state` has recorded it already."""

    def on_end(self, state: RunState, result: Result | None) -> None:
        """The run is over: finish and let go. No result means that it failed or was interrupted."""

    def on_note(self, text: str) -> None:
        """A sentence for the user."""
