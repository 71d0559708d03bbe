"""The runs of a model directory: list them, compare two, make one the current one, remove one.

Run as: llm-installer adapters [MODEL]
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm_installer.core.errors import AdapterError, TrainingError, UsageError
from llm_installer.core.paths import ModelDir, Run
from llm_installer.core.run.lock import Holder, holder
from llm_installer.core.run.progress import Progress
from llm_installer.core.run.record import RUNNING, RunRecord
from llm_installer.inference.adapter_files import read_adapter_info

INTERRUPTED = "interrupted"
"""Its record says that it runs, but nobody holds its lock: it was killed."""
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


def list_runs(folder: ModelDir) -> list[RunRow]:
    """Every run of a model directory, oldest first."""
    found, training = _runs(folder), holder(folder)
    current = folder.lora.resolve() if folder.lora.exists() else None
    return [_row(run, training, current) for run in found]


def find_run(folder: ModelDir, words: str) -> RunRow:
    """The run that `words` mean: its id, any part of it that no other has, or `last`. Raises UsageError otherwise."""
    rows = list_runs(folder)
    if not rows:
        raise UsageError(f"There is no run in {folder.root} yet; begin one with: {folder.root}/train.sh --data my.json")
    if words == LAST:
        return rows[-1]
    exact = [row for row in rows if row.run.id == words]
    found = exact or [row for row in rows if words and words in row.run.id]
    if len(found) == 1:
        return found[0]
    names = ", ".join(row.run.id for row in found or rows)
    if found:
        raise UsageError(f"{words!r} is part of {len(found)} runs; type more of one of {names}")
    raise UsageError(f"No run in {folder.root} is called {words!r}; there are {names}")


def use(folder: ModelDir, words: str) -> RunRow | None:
    """Let `lora` and the other promised links name this run; with `none` there is no `lora` any more.

    Raises AdapterError when the run's adapter is not there, damaged or made for another base.
    """
    if folder.lora.exists() and not folder.lora.is_symlink():
        raise AdapterError(f"{folder.lora} is a folder of your own, not a link to a run; move it away first")
    if words == NONE:
        folder.lora.unlink(missing_ok=True)
        return None
    row = find_run(folder, words)
    if not row.usable:
        raise AdapterError(f"Run {row.run.id} ({row.status}) has no adapter; {_instead(row)}")
    if row.adapter != row.run.adapter:
        raise AdapterError(
            f"The adapter of run {row.run.id} was written to {row.adapter}; use it with --lora {row.adapter}"
        )
    read_adapter_info(row.adapter, folder)
    folder.switch_to(row.run)
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
            f"{run.root} could not be removed completely ({error.strerror}: {error.filename})"
        ) from None
    return row


def removable(folder: ModelDir, words: str, force: bool) -> RunRow:
    """The run that `words` mean, if it may be removed: neither running nor, without `force`, in use."""
    row, training = find_run(folder, words), holder(folder)
    if training and training.run in ("", row.run.id):
        how = "is being trained" if training.run else "may be the one that is about to be trained"
        raise TrainingError(
            f"Run {row.run.id} {how}: {training}; end that first with {folder.root}/train.sh --stop-now"
        )
    if row.current and not force:
        raise UsageError(
            f"Run {row.run.id} is what ./lora names; choose another with `adapters use RUN`, or add --force"
        )
    return row


def _runs(folder: ModelDir) -> list[Run]:
    """By time of their beginning; what has neither a plan nor a record is no run."""
    if not folder.runs.is_dir():
        return []
    found = (Run(root) for root in folder.runs.iterdir() if not root.name.startswith("."))
    return sorted((r for r in found if r.plan.is_file() or r.record.is_file()), key=lambda run: run.id)


def _row(run: Run, training: Holder | None, current: Path | None) -> RunRow:
    record, seen = RunRecord.read(run), Progress.read(run)
    result: dict[str, Any] = record.result if record else {}
    own = run.adapter.is_dir() or not result.get("adapter")  # the record names a place that a move makes wrong
    adapter = run.adapter if own else Path(result["adapter"])
    about = {} if result else _read_dict(adapter / "adapter_info.json")
    numbers = {**about, **result}
    status = "finished" if record is None else record.status
    if training and training.run == run.id:
        status = RUNNING
    elif status == RUNNING or (record is None and not about):
        status = INTERRUPTED
    return RunRow(
        run=run,
        mode=str(_read_dict(run.plan).get("mode", "")),
        data=record.data if record else str(about.get("data", "")),
        status=status,
        steps=int(numbers.get("steps") or (seen.step if seen else 0)),
        base_loss=numbers.get("base_loss", seen.base_loss if seen else None),
        best_loss=numbers.get("best_loss", seen.best_loss if seen else None),
        best_step=int(numbers.get("best_step") or (seen.best_step if seen else 0)),
        started=record.started if record else str(about.get("created_at", "")),
        stop_reason=str(numbers.get("stop_reason", "")),
        adapter=adapter,
        current=current is not None and current == run.adapter.resolve(),
    )


def _instead(row: RunRow) -> str:
    if row.status == RUNNING:
        return "wait until it ends"
    return "go on with it by --resume, or choose another"


def _inside(link: Path, root: Path) -> bool:
    return link.resolve().is_relative_to(root.resolve())


def _read_dict(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
