"""Every number of a run in metrics.jsonl, one strict JSON object per line."""

from __future__ import annotations

import json
import math
import os
import time
from dataclasses import asdict
from pathlib import Path

from llm_installer.core.run.header import RunHeader
from llm_installer.core.state import Evaluation, Result, RunState, StepReport
from llm_installer.training.reporters.lines import append_whole
from llm_installer.training.reporters.protocol import Event

SECONDS = 5.0
"""After which steps are written although no evaluation has come."""
Value = str | float | bool | None


class JsonlReporter:
    """Keeps steps in memory for some seconds, at most until the next evaluation, then appends them as whole lines."""

    def __init__(self, header: RunHeader) -> None:
        self._path = header.run.metrics
        self._lines: list[str] = []
        self._changed_until = header.start_step
        self._written = time.monotonic()

    def on_start(self, header: RunHeader) -> None:
        """A new run refuses an old file; a resumed one keeps what came before its checkpoint."""
        if header.start_step and self._path.exists():
            keep_until(self._path, header.start_step)
        else:
            self._path.touch(exist_ok=False)

    def on_step(self, report: StepReport) -> None:
        """Remember one step; whoever watches sees it soon, however far the next evaluation is."""
        self._add(
            {
                "kind": "step",
                "step": report.step,
                "epoch": report.epoch,
                "loss": report.loss,
                "learning_rate": report.learning_rate,
                "grad_norm": report.grad_norm,
                "tokens_per_second": report.tokens / report.seconds if report.seconds > 0 else None,
            }
        )
        if time.monotonic() - self._written >= SECONDS:
            self._flush()

    def on_evaluation(self, evaluation: Evaluation, state: RunState, best: bool) -> None:
        """Write the steps so far and this evaluation."""
        self._changes(state)
        self._add({"kind": "evaluation", **asdict(evaluation), "best": best})
        self._flush()

    def on_end(self, state: RunState, result: Result | None) -> None:
        """Write the steps since the last evaluation."""
        self._changes(state)
        self._flush()

    def on_event(self, event: Event, state: RunState) -> None:
        """Before a checkpoint, everything until then is written."""
        if event == "save":
            self._changes(state)
            self._flush()

    def on_note(self, text: str) -> None:
        """Notes are in train.log."""

    def _changes(self, state: RunState) -> None:
        """Add what a controller has changed since the last call."""
        for change in state.adjustments:
            if change.step > self._changed_until:
                self._add({"kind": "adjustment", **asdict(change)})
                self._changed_until = change.step

    def _add(self, record: dict[str, Value]) -> None:
        strict = {key: None if _is_nan_or_infinite(value) else value for key, value in record.items()}
        self._lines.append(json.dumps(strict, allow_nan=False) + "\n")

    def _flush(self) -> None:
        data, self._lines, self._written = "".join(self._lines), [], time.monotonic()
        append_whole(self._path, data.encode())


def _is_nan_or_infinite(value: Value) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def keep_until(path: Path, step: int) -> None:
    """Drop the lines after `step`: the resumed run writes them again."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text("".join(line for line in lines if _holds(line, step)), encoding="utf-8")
    os.replace(temporary, path)


def _holds(line: str, step: int) -> bool:
    try:
        return line.endswith("\n") and int(json.loads(line)["step"]) <= step
    except ValueError:  # a line that a power failure left half on the disk
        return False
