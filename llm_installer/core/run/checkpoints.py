"""The checkpoints of a run on disk: which can be resumed from, and how far each had come. No weights are read here."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from llm_installer.core.errors import TrainingError
from llm_installer.core.manifest import damage
from llm_installer.core.paths import Run
from llm_installer.core.state import RunState
from llm_installer.core.text import short_path

ADAPTER_FILE = "adapter_model.safetensors"
BEST_FILE, OPTIMIZER_FILE, RANDOM_FILE, STATE_FILE = "best.safetensors", "optimizer.pt", "random.pt", "state.json"
FIRST_FILE = "first.safetensors"
_PREFIX = "checkpoint-"


def checkpoint_folder(run: Run, step: int) -> Path:
    """Where the checkpoint of a step lies."""
    return run.checkpoints / f"{_PREFIX}{step}"


def resumable(run: Run) -> list[Path]:
    """Checkpoints that a run could be resumed from, the newest first, by step."""
    found = [f for f in run.checkpoints.glob(f"{_PREFIX}*") if _step(f) is not None and (f / STATE_FILE).is_file()]
    return sorted(found, key=lambda folder: -(_step(folder) or 0))


def newest_step(run: Run) -> int | None:
    """The step of the newest checkpoint, from its name alone; None where there is none yet."""
    return next((_step(folder) for folder in resumable(run)), None)


def newest_valid(run: Run, say: Callable[[str], None]) -> Path | None:
    """The newest checkpoint that is complete; those that are not are named to `say` and skipped."""
    for folder in resumable(run):
        if not (wrong := damage(folder)):
            return folder
        say(f"Skipping {folder.name} of {run.id}: {wrong}")
    return None


def read_state(folder: Path) -> RunState:
    """How far a checkpoint had come. Raises TrainingError when anything in its folder is damaged."""
    if wrong := damage(folder):
        raise TrainingError(f"{short_path(folder)} cannot be resumed from: {wrong}; choose another with --resume-from")
    return RunState.from_json(json.loads((folder / STATE_FILE).read_text(encoding="utf-8")))


def _step(folder: Path) -> int | None:
    number = folder.name.removeprefix(_PREFIX)
    return int(number) if number.isdigit() else None
