"""What another shell sees and asks of a run: status.json about once a second, and files that ask for a save or the end.

A request is a file in the run's `requests` folder. One for a save is gone once there is a checkpoint, one for the end
once the loop knows of it: that the training has ended, its lock tells.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable

from llm_installer.core.run.progress import Progress
from llm_installer.core.state import Evaluation, Result, RunState, StepReport
from llm_installer.training.reporters.pace import Pace
from llm_installer.training.reporters.protocol import Moment, RunHeader
from llm_installer.training.signals import Requests

WRITE_SECONDS = 1.0
SAVE, STOP = "save", "stop"
"""How the names of requests begin."""
ASKED = "you asked for the end with --stop-now"


class ControlReporter:
    """Writes where the run is and passes requests on to the loop, which looks at them after each step."""

    def __init__(self, header: RunHeader, requests: Requests, now: Callable[[], float] = time.monotonic) -> None:
        self._header, self._requests, self._now = header, requests, now
        self._pace = Pace(header, now)
        self._state = RunState(step=header.start_step)
        self._last: StepReport | None = None
        self._saving: set[str] = set()
        self._written = -WRITE_SECONDS

    def on_start(self, header: RunHeader) -> None:
        """Say that there is a run."""
        self._write()

    def on_step(self, report: StepReport) -> None:
        """Look for requests, which this very step's end then meets."""
        self._pace.add(report)
        self._last = report
        self._look()
        if self._now() - self._written >= WRITE_SECONDS:
            self._write()

    def on_evaluation(self, evaluation: Evaluation, state: RunState, best: bool) -> None:
        """Losses that are worth showing."""
        self._state = state
        if self._now() - self._written >= WRITE_SECONDS:
            self._write()

    def on_moment(self, moment: Moment, state: RunState) -> None:
        """A new step begins: what was to be saved before it is."""
        self._state = state
        self._confirm()

    def on_end(self, state: RunState, result: Result | None) -> None:
        """Confirm what was saved last, and say that no step follows."""
        self._state = state
        self._confirm()
        self._write(training=False)

    def on_note(self, text: str) -> None:
        """Notes are in train.log."""

    def _look(self) -> None:
        with contextlib.suppress(FileNotFoundError):  # a folder that somebody deleted asks nothing
            for name in os.listdir(self._header.run.requests):
                if name.startswith(STOP):
                    self._requests.ask_stop(ASKED)
                    (self._header.run.requests / name).unlink(missing_ok=True)
                elif name.startswith(SAVE) and name not in self._saving:
                    self._saving.add(name)
                    self._requests.ask_save()

    def _confirm(self) -> None:
        if not self._saving or self._requests.save:
            return
        self._write()
        for name in self._saving:
            (self._header.run.requests / name).unlink(missing_ok=True)
        self._saving.clear()

    def _write(self, training: bool = True) -> None:
        # A full disk must not turn this reporter off: it would no longer hear who asks for the end.
        with contextlib.suppress(OSError):
            self._progress(training).write(self._header.run)
        self._written = self._now()

    def _progress(self, training: bool) -> Progress:
        header, state, pace, last = self._header, self._state, self._pace, self._last
        measured = state.history[-1] if state.history else None
        return Progress(
            run=header.run.id,
            step=pace.step,
            total_steps=header.total_steps,
            epoch=last.epoch if last else state.epoch,
            epochs=header.epochs,
            loss=last.loss if last else None,
            measured_at=measured.step if measured else 0,
            train_loss=measured.train_loss if measured else None,
            validation_loss=measured.validation_loss if measured else None,
            base_loss=state.base_loss,
            best_loss=state.best_loss,
            best_step=state.best_step,
            tokens_per_second=pace.tokens_per_second,
            elapsed=pace.elapsed,
            remaining=pace.remaining,
            checkpoint=_newest(header),
            training=training,
            updated=time.time(),
        )


def _newest(header: RunHeader) -> str:
    try:
        return os.readlink(header.run.checkpoints / "last")
    except OSError:  # none was written yet
        return ""
