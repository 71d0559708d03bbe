"""What another shell sees and asks of a run: status.json about once a second, and requests to save or to stop."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

from llm_installer.core.run.header import RunHeader
from llm_installer.core.run.progress import Progress
from llm_installer.core.run.requests import SAVE, STOP, STOP_REASON, pending_requests
from llm_installer.core.run.signals import Requests
from llm_installer.core.state import Evaluation, Result, RunState, StepReport
from llm_installer.training.reporters.pace import Pace
from llm_installer.training.reporters.protocol import Event

WRITE_SECONDS = 1.0


class RequestsReporter:
    """Writes where the run is, and passes requests on to the loop, which meets them after each step."""

    def __init__(self, header: RunHeader, requests: Requests, now: Callable[[], float] = time.monotonic) -> None:
        self._header, self._requests, self._now = header, requests, now
        self._pace = Pace(header, now)
        self._state = header.before
        self._last: StepReport | None = None
        self._saving: set[Path] = set()
        self._written = -WRITE_SECONDS

    def on_start(self, header: RunHeader) -> None:
        """Show that there is a run."""
        self._write()

    def on_step(self, report: StepReport) -> None:
        """Look for requests, which the loop meets at the end of this very step."""
        self._pace.add(report)
        self._last = report
        self._look()
        if self._now() - self._written >= WRITE_SECONDS:
            self._write()

    def on_evaluation(self, evaluation: Evaluation, state: RunState, best: bool) -> None:
        """Show the losses."""
        self._state = state
        if self._now() - self._written >= WRITE_SECONDS:
            self._write()

    def on_event(self, event: Event, state: RunState) -> None:
        """When a new step begins, the checkpoint that was asked for before it is written."""
        self._state = state
        self._confirm()

    def on_end(self, state: RunState, result: Result | None) -> None:
        """Confirm the last checkpoint, and show that no step follows."""
        self._state = state
        self._confirm()
        self._write(training=False)

    def on_note(self, text: str) -> None:
        """Notes are in train.log."""

    def _look(self) -> None:
        for request in pending_requests(self._header.run):
            if request.name.startswith(STOP):
                self._requests.ask_stop(STOP_REASON)
                request.unlink(missing_ok=True)
            elif request.name.startswith(SAVE) and request not in self._saving:
                self._saving.add(request)
                self._requests.ask_save()

    def _confirm(self) -> None:
        if not self._saving or self._requests.save:
            return
        self._write()
        for request in self._saving:
            request.unlink(missing_ok=True)
        self._saving.clear()

    def _write(self, training: bool = True) -> None:
        # A full disk must not turn this reporter off: it would no longer read requests to stop.
        with contextlib.suppress(OSError):
            self._progress(training).write(self._header.run)
        self._written = self._now()

    def _progress(self, training: bool) -> Progress:
        header, state, pace, last = self._header, self._state, self._pace, self._last
        latest = state.history[-1] if state.history else None
        return Progress(
            run=header.run.id,
            step=pace.step,
            total_steps=header.total_steps,
            epoch=last.epoch if last else state.epoch,
            epochs=header.epochs,
            loss=last.loss if last else None,
            measured_at=latest.step if latest else 0,
            train_loss=latest.train_loss if latest else None,
            validation_loss=latest.validation_loss if latest else None,
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
    except OSError:  # no checkpoint was written yet
        return ""
