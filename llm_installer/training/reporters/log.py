"""Everything that is said during a run, as plain text in train.log."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from llm_installer.core.run.header import RunHeader
from llm_installer.core.state import Evaluation, Result, RunState, StepReport
from llm_installer.core.text import visible
from llm_installer.training.reporters.lines import (
    SEPARATOR,
    append_whole,
    end_fields,
    evaluation_fields,
    start_fields,
)


class LogReporter:
    """Writes notes, evaluations and the end, each at once and with its time."""

    def __init__(self, header: RunHeader, now: Callable[[], datetime] = datetime.now) -> None:
        self._header = header
        self._path = header.run.train_log
        self._now = now

    def on_start(self, header: RunHeader) -> None:
        """Only a resumed run continues an existing file."""
        self._path.touch(exist_ok=header.start_step > 0)
        self.on_note(SEPARATOR.join(start_fields(header)))

    def on_step(self, report: StepReport) -> None:
        """Steps are in metrics.jsonl."""

    def on_evaluation(self, evaluation: Evaluation, state: RunState, best: bool) -> None:
        """The line that the terminal shows."""
        self.on_note(SEPARATOR.join(evaluation_fields(self._header, evaluation, state, best)))

    def on_end(self, state: RunState, result: Result | None) -> None:
        """The last line says how it ended."""
        self.on_note(SEPARATOR.join(end_fields(self._header, state, result)))

    def on_note(self, text: str) -> None:
        """A line; further lines of the same note are indented."""
        line = f"{self._now():%Y-%m-%d %H:%M:%S}  {visible(text, lines=True)}".replace("\n", "\n    ")
        append_whole(self._path, f"{line}\n".encode())
