"""The user's own Python objects: a run calls up to nine hooks of theirs, and they can stop it."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from llm_installer.core.errors import Interrupted, UsageError
from llm_installer.core.hints import suggest
from llm_installer.core.run.header import RunHeader
from llm_installer.core.run.signals import Requests
from llm_installer.core.state import Evaluation, Result, RunState, StepReport
from llm_installer.training.reporters.protocol import Event
from llm_installer.training.reporters.values import step_values

HOOKS = (
    "on_train_begin",
    "on_epoch_begin",
    "on_step_begin",
    "on_step_end",
    "on_log",
    "on_evaluate",
    "on_save",
    "on_epoch_end",
    "on_train_end",
)
"""In the order in which they are called."""


@dataclass(frozen=True)
class Context:
    """Where the run is; each hook is called with one of these."""

    step: int
    """The last step that is done, or in on_step_begin the one that begins."""
    epoch: float
    total_steps: int
    """0 where the run has no last step of its own."""
    loss: float
    """Of the latest step; NaN before the first."""
    learning_rate: float
    metrics: Mapping[str, Any]
    """on_log: the step's numbers; on_evaluate: the evaluation's; on_train_end: how it ended; otherwise empty."""
    best_loss: float | None
    best_step: int
    model: str
    output_dir: Path
    """The run's folder."""
    is_main_process: bool
    _requests: Requests = field(repr=False)

    def stop(self, why: str = "a callback asked it to stop") -> None:
        """Stop the run after the present step; the best weights are published as always."""
        self._requests.ask_stop(why)

    def save(self) -> None:
        """Write a checkpoint after the present step."""
        self._requests.ask_save()


def as_callbacks(given: object) -> tuple[object, ...]:
    """One object, or a list of them. Raises UsageError for an object without hooks and for hooks that do not exist."""
    found = tuple(given) if isinstance(given, (list, tuple)) else () if given is None else (given,)
    for one in found:
        hooks = [name for name in dir(one) if name.startswith("on_") and callable(getattr(one, name))]
        if unknown := [name for name in hooks if name not in HOOKS]:
            close = suggest(unknown[0], list(HOOKS)) or f"; the hooks are {', '.join(HOOKS)}"
            raise UsageError(f"callbacks: {type(one).__name__}.{unknown[0]} is not a hook{close}")
        if not hooks:
            raise UsageError(f"callbacks: {type(one).__name__} has none of the hooks: {', '.join(HOOKS)}")
    return found


class CallbackReporter:
    """Calls the hooks. A hook that raises gets one warning, and the run continues."""

    def __init__(
        self, header: RunHeader, callbacks: Sequence[object], requests: Requests, say: Callable[[str], None]
    ) -> None:
        self._header, self._callbacks, self._requests, self._say = header, callbacks, requests, say
        self._state = RunState(step=header.start_step)
        self._loss = self._rate = math.nan
        self._in_epoch = False
        self._named: set[str] = set()

    def on_start(self, header: RunHeader) -> None:
        """on_train_begin."""
        self._call("on_train_begin")

    def on_event(self, event: Event, state: RunState) -> None:
        """on_epoch_begin, on_step_begin, on_save or on_epoch_end."""
        self._state = state
        if event in ("epoch begin", "step begin") and not self._in_epoch:
            self._in_epoch = True
            self._call("on_epoch_begin")
        if event == "step begin":
            self._call("on_step_begin")
        elif event == "saved":
            self._call("on_save")
        elif event == "epoch end":
            self._end_epoch()

    def on_step(self, report: StepReport) -> None:
        """on_step_end and on_log."""
        self._loss, self._rate = report.loss, report.learning_rate
        self._call("on_step_end")
        self._call("on_log", {"loss": report.loss, **step_values(report)})

    def on_evaluation(self, evaluation: Evaluation, state: RunState, best: bool) -> None:
        """on_evaluate; the first is that of the base model, at step 0."""
        self._state = state
        self._call("on_evaluate", {**asdict(evaluation), "best": best})

    def on_end(self, state: RunState, result: Result | None) -> None:
        """on_epoch_end where an epoch was interrupted, then on_train_end."""
        self._state = state
        self._end_epoch()
        self._call("on_train_end", asdict(result) if result else {"stop_reason": state.stop_reason})

    def on_note(self, text: str) -> None:
        """Notes are in train.log."""

    def _end_epoch(self) -> None:
        if self._in_epoch:
            self._in_epoch = False
            self._call("on_epoch_end")

    def _call(self, hook: str, metrics: Mapping[str, object] | None = None) -> None:
        for callback in self._callbacks:
            if method := getattr(callback, hook, None):
                try:
                    method(self._context(metrics or {}))
                except Interrupted:  # a second signal arrived during the hook
                    raise
                except Exception as error:  # the user's code may raise anything
                    self._name(f"{type(callback).__name__}.{hook}", error)

    def _name(self, hook: str, error: Exception) -> None:
        if hook not in self._named:
            self._named.add(hook)
            raised = f"{hook} raised {type(error).__name__}: {error}"
            self._say(f"Warning: {raised}; the run continues (this warning comes once)")

    def _context(self, metrics: Mapping[str, object]) -> Context:
        state = self._state
        return Context(
            step=state.step,
            epoch=state.epoch,
            total_steps=self._header.total_steps,
            loss=self._loss,
            learning_rate=self._rate,
            metrics=metrics,
            best_loss=state.best_loss,
            best_step=state.best_step,
            model=self._header.model,
            output_dir=self._header.run.root,
            is_main_process=os.environ.get("RANK", "0") == "0",
            _requests=self._requests,
        )
