"""The runs of a model directory: list them, make one the current one, remove one.

Run as: llm-installer adapters [MODEL]
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from llm_installer.core.adapter_info import INFO, read_adapter_info
from llm_installer.core.errors import AdapterError, TrainingError, UsageError
from llm_installer.core.hints import program, script
from llm_installer.core.paths import ModelDir, Run
from llm_installer.core.run.lock import Holder, holder
from llm_installer.core.run.progress import Progress
from llm_installer.core.run.record import RUNNING, RunRecord
from llm_installer.core.run.served import server_of
from llm_installer.core.text import short_path
from llm_installer.runs.curves import make_current
from llm_installer.runs.versions import PRODUCTION, meant, read_versions

INTERRUPTED = "interrupted"
"""Its record says that it is running, but no process holds its lock: it was killed."""
LAST, NONE = "last", "none"


@dataclass(frozen=True)
class RunRow:
    """One run, as lists show it."""

    run: Run
    mode: str
    data: str
    """In the user's words; empty where nothing tells."""
    status: str
    steps: int
    base_loss: float | None
    best_loss: float | None
    best_step: int
    started: str
    """ISO time."""
    stop_reason: str
    adapter: Path
    """Where its adapter is or will be."""
    current: bool
    """Whether `lora` names it."""

    @property
    def usable(self) -> bool:
        """Whether there is something to talk to."""
        return (self.adapter / "adapter_config.json").is_file()


@dataclass(frozen=True)
class RunList:
    """The runs of a model directory, oldest first."""

    folder: ModelDir
    rows: Sequence[RunRow]


@dataclass(frozen=True)
class Chosen:
    """What `lora` names from now on: a run, or nothing."""

    folder: ModelDir
    row: RunRow | None


def list_runs(folder: ModelDir) -> list[RunRow]:
    """Every run of a model directory, oldest first."""
    found, training = _runs(folder), holder(folder)
    current = folder.lora.resolve() if folder.lora.exists() else None
    return [_row(run, training, current) for run in found]


def find_run(folder: ModelDir, words: str) -> RunRow:
    """The run that `words` mean: its id, any part of it that no other has, `last`, its version or its stage. Raises
    UsageError otherwise."""
    rows = list_runs(folder)
    if not rows:
        raise UsageError(f"{folder.root.name} has no runs yet; start one with: {script(folder.root)} --data my.json")
    if words == LAST:
        return rows[-1]
    words = meant(folder, words) or words
    exact = [row for row in rows if row.run.id == words]
    found = exact or [row for row in rows if words and words in row.run.id]
    if len(found) == 1:
        return found[0]
    names = ", ".join(row.run.id for row in found or rows)
    if found:
        raise UsageError(f"{words!r} is part of {len(found)} ids; type more of one of them: {names}")
    raise UsageError(f"No run of {folder.root.name} is called {words!r}; its runs are: {names}")


def use(folder: ModelDir, words: str) -> RunRow | None:
    """Let `lora` and the other promised links name this run; with `none` there is no `lora` any more.

    Raises AdapterError when the run's adapter is not there, damaged or made for another base.
    """
    if folder.lora.exists() and not folder.lora.is_symlink():
        raise AdapterError(f"{short_path(folder.lora)} is a folder of your own, not a link to a run; move it first")
    if words == NONE:
        folder.lora.unlink(missing_ok=True)
        return None
    row = find_run(folder, words)
    if not row.usable:
        raise AdapterError(f"Run {row.run.id} ({row.status}) has no adapter; {_instead(row)}")
    if row.adapter != row.run.adapter:
        raise AdapterError(
            f"The adapter of run {row.run.id} is in a folder of its own; use it with --lora {short_path(row.adapter)}"
        )
    read_adapter_info(row.adapter, folder)
    make_current(folder, row.run)
    return row


def remove(folder: ModelDir, words: str, force: bool = False) -> RunRow:
    """Delete a run's folder. Raises when it is running, or when it is in use and `force` is not given."""
    row = removable(folder, words, force)
    run = row.run
    for link in folder.run_links(run):
        if link.is_symlink() and _inside(link, run.root):
            link.unlink()
    doomed = run.root.with_name(f".{run.id}.removing")
    try:
        shutil.rmtree(doomed, ignore_errors=True)
        os.rename(run.root, doomed)  # gone at once: a half-deleted run is in no list
        shutil.rmtree(doomed)
    except OSError as error:
        raise TrainingError(
            f"{short_path(run.root)} could not be removed completely ({error.strerror}: {error.filename})"
        ) from None
    return row


def removable(folder: ModelDir, words: str, force: bool) -> RunRow:
    """The run that `words` mean, if it may be removed: neither running nor, without `force`, in use."""
    row, training = find_run(folder, words), holder(folder)
    if training and training.run in ("", row.run.id):
        how = "is being trained" if training.run else "may be the one that is about to be trained"
        raise TrainingError(f"Run {row.run.id} {how} by {training}; stop it first: {script(folder.root)} --stop-now")
    if server := server_of(folder, row.run.id):
        raise TrainingError(f"Run {row.run.id} is served by {server}; end that first, with Ctrl-C where it was started")
    if row.current and not force:
        other = f"{program()} adapters {folder.typed} use RUN"
        raise UsageError(f"Run {row.run.id} is what ./lora names; add --force, or choose another with: {other}")
    if read_versions(folder).stages.get(PRODUCTION) == row.run.id and not force:
        raise UsageError(f"Run {row.run.id} is in production; add --force, or put another into production first")
    return row


def _runs(folder: ModelDir) -> list[Run]:
    """By the time of their start; a folder with neither a plan nor a record is not a run."""
    if not folder.runs.is_dir():
        return []
    found = (Run(root) for root in folder.runs.iterdir() if not root.name.startswith("."))
    return sorted((r for r in found if r.plan.is_file() or r.record.is_file()), key=lambda run: run.id)


def _row(run: Run, training: Holder | None, current: Path | None) -> RunRow:
    record, seen = RunRecord.read(run), Progress.read(run)
    result: dict[str, object] = record.result if record else {}
    adapter = _adapter(run, record)
    about = {} if result else _read_dict(adapter / INFO)
    status = "finished" if record is None else record.status
    if training and training.run == run.id:
        status = RUNNING
    elif status == RUNNING or (record is None and not about):
        status = INTERRUPTED
    # The newest wins. An adapter without a result is from an earlier session, and so is the end that it tells of.
    newest = {"stop_reason": ""} | _seen(seen) | ({} if status == RUNNING else result)
    numbers = about | newest if record else _seen(seen) | about
    return RunRow(
        run=run,
        mode=str(_read_dict(run.plan).get("mode", "")),
        data=record.data if record else str(about.get("data", "")),
        status=status,
        steps=int(_number(numbers.get("steps")) or 0),
        base_loss=_number(numbers.get("base_loss")),
        best_loss=_number(numbers.get("best_loss")),
        best_step=int(_number(numbers.get("best_step")) or 0),
        started=record.started if record else str(about.get("created_at", "")),
        stop_reason=str(numbers.get("stop_reason", "")),
        adapter=adapter,
        current=current is not None and current == run.adapter.resolve(),
    )


def _adapter(run: Run, record: RunRecord | None) -> Path:
    """Where its adapter is or will be: in the run, or where --output said."""
    if record is None or run.adapter.is_dir():  # the record names a place that a move makes wrong
        return run.adapter
    if done := record.result.get("adapter"):
        return Path(str(done))
    output = record.options.get("output")
    place = Path(record.base, Path(str(output)).expanduser()) if output else run.adapter
    return place if _since(place / INFO, record.started) else run.adapter


def _since(file: Path, started: str) -> bool:
    """Whether a file was written after a run began, so that it can be its own; a session of it may have been killed."""
    try:
        return file.stat().st_mtime >= datetime.fromisoformat(started).timestamp()
    except (OSError, ValueError):
        return False


def _seen(seen: Progress | None) -> dict[str, object]:
    """What status.json says, by the names of a result; of losses only those that are known."""
    if seen is None:
        return {}
    found: dict[str, object] = {"steps": seen.step}
    if seen.base_loss is not None:
        found["base_loss"] = seen.base_loss
    if seen.best_loss is not None:
        found |= {"best_loss": seen.best_loss, "best_step": seen.best_step}
    return found


def _instead(row: RunRow) -> str:
    if row.status == RUNNING:
        return "wait until it ends"
    return "resume it with --resume, or choose another"


def _inside(link: Path, root: Path) -> bool:
    return link.resolve().is_relative_to(root.resolve())


def _number(value: object) -> float | None:
    return value if isinstance(value, int | float) else None


def _read_dict(file: Path) -> dict[str, object]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
