"""What a reporter is told of a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, Protocol, runtime_checkable

from llm_installer.core.run.header import RunHeader
from llm_installer.core.run.samples import Sample
from llm_installer.core.state import Evaluation, Result, RunState, StepReport

Event = Literal["epoch begin", "epoch end", "step begin", "save", "saved"]
"""What else happens in a run. "save" comes before a checkpoint is written: what was told until then must be on disk,
because a run that resumes from it does not tell it again. "saved" comes after it."""


@runtime_checkable
class Attentive(Protocol):
    """A reporter that is also told of events."""

    def on_event(self, event: Event, state: RunState) -> None:
        """Something happened."""


@runtime_checkable
class Quoting(Protocol):
    """A reporter that is also told what the model answers."""

    def on_samples(self, evaluation: Evaluation, samples: Sequence[Sample]) -> None:
        """The answers of the weights that were just evaluated."""


@runtime_checkable
class Linked(Protocol):
    """A reporter that shows the run at a URL, once it has started."""

    @property
    def url(self) -> str:
        """Where to look; empty where there is no URL."""


@runtime_checkable
class Ending(Protocol):
    """A reporter that shows that the run was asked to end."""

    ending: Callable[[], bool]
    """Whether it was."""


class Reporter(Protocol):
    """Told what a run does. An OSError turns a reporter off; it never ends the run."""

    def on_start(self, header: RunHeader) -> None:
        """The run begins."""

    def on_step(self, report: StepReport) -> None:
        """One optimizer step is done. Its tokens and seconds are those of this step alone."""

    def on_evaluation(self, evaluation: Evaluation, state: RunState, best: bool) -> None:
        """The loss was evaluated; `state` has recorded it already."""

    def on_end(self, state: RunState, result: Result | None) -> None:
        """The run is over: finish and release everything. Without a result it failed or was interrupted."""

    def on_note(self, text: str) -> None:
        """A sentence for the user."""
