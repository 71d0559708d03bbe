"""A training seen and steered from another shell: how it stands, save now, end now.

Run as: ./train.sh --status   (or --save-now, --stop-now)
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from llm_installer.core.errors import TrainingError, UsageError
from llm_installer.core.files import finite
from llm_installer.core.hints import script
from llm_installer.core.paths import ModelDir, Run
from llm_installer.core.run.lock import Holder, holder
from llm_installer.core.run.progress import Progress
from llm_installer.core.run.requests import SAVE, STOP, write_request
from llm_installer.core.voice import Voice
from llm_installer.planning.options import Options
from llm_installer.runs.listing import RunRow, list_runs

LOOK_SECONDS = 0.05
"""How often a waiting command looks again."""


@dataclass(frozen=True)
class RunStatus:
    """What is being trained in a model directory, or what was trained last."""

    folder: ModelDir
    training: Holder | None
    row: RunRow | None
    """The run that is trained, else the newest; None where there is none, or it is still being prepared."""
    progress: Progress | None
    at: float
    """When it was looked at, in seconds since 1970."""

    def to_json(self) -> str:
        """One object on one line; null where there is nothing to say."""
        row = self.row
        run = {"id": row.run.id, "status": row.status, "stop_reason": row.stop_reason} if row else None
        seen = asdict(self.progress) if self.progress else None
        age = self.at - self.progress.updated if self.progress else None
        running = asdict(self.training) if self.training else None
        known = {"model": self.folder.root.name, "training": running, "run": run, "progress": seen, "age_seconds": age}
        return json.dumps(finite(known))


@dataclass(frozen=True)
class Saved:
    """A checkpoint that was asked for and is complete."""

    checkpoint: Path


@dataclass(frozen=True)
class Ended:
    """A training that was asked to end, and has."""

    folder: ModelDir
    row: RunRow


def control(options: Options, voice: Voice) -> RunStatus | Saved | Ended:
    """Do what --status, --save-now or --stop-now ask."""
    folder = ModelDir.find(options.model_path or ".")
    asked = [name for name in ("status", "save_now", "stop_now") if getattr(options, name)]
    if len(asked) != 1 or (options.json and not options.status):
        raise UsageError("Give one of --status, --save-now and --stop-now; --json goes with --status or --dry-run")
    if options.status:
        return status_of(folder)
    with voice.waiting("Waiting for the step to end"):
        return save_now(folder) if options.save_now else stop_now(folder)


def status_of(folder: ModelDir) -> RunStatus:
    """How the present training stands, or how the last one ended."""
    training, rows = holder(folder), list_runs(folder)
    wanted = [row for row in rows if row.run.id == training.run] if training else rows
    row = wanted[-1] if wanted else None
    return RunStatus(folder, training, row, Progress.read(row.run) if row else None, time.time())


def save_now(folder: ModelDir) -> Saved:
    """Have a checkpoint written after the present step, and wait until it is complete."""
    who = _present(folder)
    run = Run(folder.runs / who.run)
    request = write_request(run, SAVE)
    while request.exists():
        if _ended(folder, who):
            raise TrainingError(
                f"Run {who.run} ended before it could save again; see how: {script(folder.root)} --status"
            )
        _look_again_later(who, "a checkpoint will be written once it continues")
    return Saved((run.checkpoints / "last").resolve())


def stop_now(folder: ModelDir) -> Ended:
    """Have the present training end after its step, and wait until it has."""
    who = _present(folder)
    write_request(Run(folder.runs / who.run), STOP)
    while not _ended(folder, who):
        _look_again_later(who, "it will end well once it continues")
    row = next((row for row in list_runs(folder) if row.run.id == who.run), None)
    if row is None or not row.stop_reason:
        raise TrainingError(f"Run {who.run} ended without a result; resume it: {script(folder.root)} --resume")
    return Ended(folder, row)


def _present(folder: ModelDir) -> Holder:
    """The present training, once it has a run; TrainingError when there is none."""
    while who := holder(folder):
        if who.run:
            return who
        _look_again_later(who, "it is still preparing its run, so ask again then")
    raise TrainingError(f"{folder.root.name} is not being trained; see its last run: {script(folder.root)} --status")


def _look_again_later(who: Holder, meanwhile: str) -> None:
    """Wait a moment. Raises TrainingError where the training is suspended, for it would answer nothing for ever."""
    if who.suspended:
        raise TrainingError(
            f"The training, {who}, is suspended (by Ctrl-Z or SIGSTOP); let it continue with: kill -CONT {who.pid}; "
            f"{meanwhile}"
        )
    time.sleep(LOOK_SECONDS)


def _ended(folder: ModelDir, who: Holder) -> bool:
    now = holder(folder)
    return now is None or (now.pid, now.started) != (who.pid, who.started)
