"""A training seen and steered from another shell: how it stands, save now, end now.

Run as: ./train.sh --status   (or --save-now, --stop-now)
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from llm_installer.core.errors import TrainingError, UsageError
from llm_installer.core.files import finite
from llm_installer.core.paths import ModelDir, Run
from llm_installer.core.run.lock import Holder, holder
from llm_installer.core.run.progress import Progress
from llm_installer.planning.options import Options
from llm_installer.runs.listing import RunRow, list_runs
from llm_installer.training.reporters.requests import SAVE, STOP
from llm_installer.ui.console import Console
from llm_installer.ui.runs import show_standing

LOOK_SECONDS = 0.05
"""How often somebody who waits looks again."""


@dataclass(frozen=True)
class Standing:
    """What goes on in a model directory, or what was last."""

    model: str
    training: Holder | None
    row: RunRow | None
    """The run that is trained, else the newest; None where there is none, or it is still being prepared."""
    progress: Progress | None

    def to_json(self, now: float) -> str:
        """One object on one line; null where there is nothing to say."""
        row = self.row
        run = {"id": row.run.id, "status": row.status, "stop_reason": row.stop_reason} if row else None
        seen = asdict(self.progress) if self.progress else None
        age = now - self.progress.updated if self.progress else None
        running = asdict(self.training) if self.training else None
        return json.dumps(
            finite({"model": self.model, "training": running, "run": run, "progress": seen, "age_seconds": age})
        )


def control(options: Options, console: Console | None = None) -> None:
    """Do what --status, --save-now or --stop-now ask."""
    console = console or Console()
    folder = ModelDir.find(options.model_path or ".")
    asked = [name for name in ("status", "save_now", "stop_now") if getattr(options, name)]
    if len(asked) != 1 or (options.json and not options.status):
        raise UsageError("Give one of --status, --save-now and --stop-now; --json goes with --status")
    if options.save_now:
        save_now(folder, console.line)
    elif options.stop_now:
        stop_now(folder, console.line)
    elif options.json:
        console.line(standing(folder).to_json(time.time()))
    else:
        show_standing(console, standing(folder), time.time())


def standing(folder: ModelDir) -> Standing:
    """How the present training stands, or how the last one ended."""
    training, rows = holder(folder), list_runs(folder)
    wanted = [row for row in rows if row.run.id == training.run] if training else rows
    row = wanted[-1] if wanted else None
    return Standing(folder.root.name, training, row, Progress.read(row.run) if row else None)


def save_now(folder: ModelDir, say: Callable[[str], None]) -> None:
    """Have a checkpoint written after the present step; say where, once it is complete."""
    who = _present(folder)
    run = Run(folder.runs / who.run)
    request = _ask(run, SAVE)
    while request.exists():
        if _ended(folder, who):
            raise TrainingError(
                f"Run {who.run} ended before it saved again; see how with: {folder.root}/train.sh --status"
            )
        time.sleep(LOOK_SECONDS)
    say(str((run.checkpoints / "last").resolve()))


def stop_now(folder: ModelDir, say: Callable[[str], None]) -> None:
    """Have the present training end after its step; say how it ended, once it has."""
    who = _present(folder)
    _ask(Run(folder.runs / who.run), STOP)
    while not _ended(folder, who):
        time.sleep(LOOK_SECONDS)
    row = next((row for row in list_runs(folder) if row.run.id == who.run), None)
    if row is None or not row.stop_reason:
        raise TrainingError(f"Run {who.run} ended without a result; go on with it: {folder.root}/train.sh --resume")
    say(f"Run {row.run.id} ended after step {row.steps}: {row.stop_reason}.")
    if row.best_loss is not None and row.base_loss is not None:
        say(f"Loss {row.base_loss:.4f} -> {row.best_loss:.4f}, the best at step {row.best_step}.")
    say(f"Adapter: {row.adapter}" + ("" if row.current else " (./lora names another, or none)"))
    if row.status == "stopped":
        say(f"Go on with it: {folder.root}/train.sh --resume")


def _present(folder: ModelDir) -> Holder:
    """The training that goes on, once it has a run; TrainingError when there is none."""
    while who := holder(folder):
        if who.run:
            return who
        time.sleep(LOOK_SECONDS)  # it still reads its data or loads its model
    raise TrainingError(
        f"Nothing is being trained in {folder.root}; see what was with: {folder.root}/train.sh --status"
    )


def _ask(run: Run, what: str) -> Path:
    """Leave a request of our own; the run takes it away once it is met."""
    request = run.requests / f"{what}-{os.getpid()}"
    try:
        run.requests.mkdir(exist_ok=True)
        request.touch()
    except OSError as error:
        raise TrainingError(
            f"{run.requests} cannot be written to ({error.strerror}), so run {run.id} cannot be asked; "
            "send its process a SIGTERM to end it with a checkpoint"
        ) from None
    return request


def _ended(folder: ModelDir, who: Holder) -> bool:
    now = holder(folder)
    return now is None or (now.pid, now.started) != (who.pid, who.started)
