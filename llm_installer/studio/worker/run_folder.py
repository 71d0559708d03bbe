"""What a worker reads from the folder of a run: which run is a job's, how far it is, and what it made."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from llm_installer.core.paths import ModelDir, Run
from llm_installer.core.run.forecast import Duration
from llm_installer.core.run.progress import Progress
from llm_installer.core.run.record import FAILED, RUNNING, STOPPED, RunRecord
from llm_installer.core.run.requests import STOP_REASON
from llm_installer.studio.blobs import file_hash
from llm_installer.studio.plain import Json
from llm_installer.studio.results import NAMES

AT_ONCE = 1000
"""Lines of metrics that are sent in one report."""
_STEP, _EVALUATION = "step", "evaluation"


def run_of(folder: ModelDir, data: Path) -> Run | None:
    """The newest run that learned from the file of a job, which no other job has; None where there is none yet."""
    runs = sorted((Run(file.parent) for file in folder.runs.glob("*/run.json")), key=lambda run: run.id, reverse=True)
    for run in runs:
        record = RunRecord.read(run)
        if record and record.options.get("data") == str(data):
            return run
    return None


@dataclass
class Metrics:
    """The lines of metrics.jsonl that the server does not have yet.

    A run that is resumed writes the steps after its checkpoint once more, with the same numbers: what the server has is
    skipped by its step, not by its place in the file.
    """

    sent: dict[str, int] = field(default_factory=dict)
    """The last step of each kind that the server has; -1 for none."""
    _place: int = 0
    _last: bytes = b""

    def new(self, run: Run, most: int = AT_ONCE) -> list[Json]:
        """The next lines; `took` says that they were sent."""
        try:
            with run.metrics.open("rb") as file:
                return self._read(file.read(), most)
        except OSError:
            return []

    def _read(self, content: bytes, most: int) -> list[Json]:
        if content[self._place - len(self._last) : self._place] != self._last:
            self._place, self._last = 0, b""  # the file was cut back, or is that of another run
        found: list[Json] = []
        while len(found) < most and (end := content.find(b"\n", self._place)) >= 0:
            line = content[self._place : end + 1]
            self._place, self._last = end + 1, line
            try:
                one = json.loads(line)
            except ValueError:
                continue
            if isinstance(one, dict) and self._is_new(one):
                found.append(one)
        return found

    def _is_new(self, one: Json) -> bool:
        kind, step = str(one.get("kind")), one.get("step")
        if not isinstance(step, int) or step <= self.sent.get(kind, -1):
            return False
        self.sent[kind] = step
        return True


def progress_of(run: Run) -> Progress | None:
    """How far a run is."""
    return Progress.read(run)


def is_done(run: Run) -> bool:
    """Whether a run ended by itself, or because someone asked it to; one that a signal ended has a result, too, but
    goes on when its job does."""
    record = RunRecord.read(run)
    if record is None or record.status in (RUNNING, FAILED) or not record.result:
        return False
    return record.status != STOPPED or record.result.get("stop_reason") == STOP_REASON


def percent(seen: Progress) -> int:
    """Of a run that has an end."""
    return 100 * seen.step // seen.total_steps if seen.total_steps else 0


def files_of(run: Run) -> dict[str, Path]:
    """The files of a result, by their path in it."""
    found = {name: run.root / name for name in NAMES}
    return {name: file for name, file in found.items() if file.is_file()}


def described(files: dict[str, Path]) -> list[Json]:
    """The same with hash and size, as they are handed in."""
    return [{"path": name, "sha256": file_hash(file), "bytes": file.stat().st_size} for name, file in files.items()]


def result_of(folder: ModelDir, run: Run) -> tuple[Json, Json]:
    """(result, measured) of a run that has ended: losses and why it ended; times, memory, and what was predicted."""
    record = RunRecord.read(run)
    found = record.result if record else {}
    names = ("steps", "best_step", "base_loss", "best_loss", "stop_reason", "improved")
    result: Json = {name: found.get(name) for name in names}
    result |= {"run": run.id, "model": f"{folder.root.name}:{run.id}"}
    took, speed = Duration.read(run), found.get("speed") or {}
    measured: Json = {
        "seconds": took.took_seconds if took else None,
        "predicted_seconds": took.predicted_seconds if took else None,
        "peak_bytes": speed.get("peak_bytes"),
        "predicted_bytes": speed.get("predicted_bytes"),
        "tokens_per_second": speed.get("tokens_per_second"),
    }
    return result, measured
