"""Adapters and checkpoints on disk: a folder is complete or absent."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import save_file
from torch import Tensor

from llm_installer.core.errors import TrainingError
from llm_installer.core.paths import Run, switch_link
from llm_installer.core.state import RunState

ADAPTER_FILE = "adapter_model.safetensors"
SAVE_SECONDS = 30.0
"""A kill loses at most this much work, besides what one evaluation interval takes."""

Weights = dict[str, Tensor]


def adapter_weights(model: PeftModel) -> Weights:
    """A copy of the adapter, on the CPU, under the names PEFT saves it by."""
    return {k: v.detach().to("cpu", copy=True).contiguous() for k, v in get_peft_model_state_dict(model).items()}


def load_weights(model: PeftModel, weights: Weights) -> None:
    """Put adapter weights back into the model they were copied from."""
    set_peft_model_state_dict(model, weights)


def save_adapter(folder: Path, model: PeftModel, weights: Weights, extra: Callable[[Path], None]) -> None:
    """Write a PEFT adapter to `folder`, replacing it as a whole; `extra` adds files before it appears."""

    def fill(fresh: Path) -> None:
        save_file(weights, fresh / ADAPTER_FILE, metadata={"format": "pt"})
        model.peft_config["default"].save_pretrained(str(fresh))
        extra(fresh)

    write_folder(folder, fill)


class CheckpointWriter:
    """Saves at most every SAVE_SECONDS and at the end; keeps the checkpoints that `best` and `last` name."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._saved_at = time.monotonic()

    def write(
        self, model: PeftModel, optimizer: torch.optim.Optimizer, state: RunState, best: Weights, ending: bool
    ) -> None:
        """Write checkpoint-<step>, and the best one too where that is another, if it is time to."""
        if not ending and time.monotonic() - self._saved_at < SAVE_SECONDS:
            return

        def resumable(fresh: Path) -> None:
            torch.save(optimizer.state_dict(), fresh / "optimizer.pt")
            write_json(fresh / "state.json", dataclasses.asdict(state))

        last, best_folder = self._folder(state.step), self._folder(state.best_step)
        save_adapter(last, model, adapter_weights(model), resumable)
        switch_link(self.run.checkpoints / "last", last)
        if state.best_step:
            if not best_folder.is_dir():
                save_adapter(best_folder, model, best, lambda fresh: None)
            switch_link(self.run.checkpoints / "best", best_folder)
        self._prune(keep={last, best_folder})
        self._saved_at = time.monotonic()

    def _folder(self, step: int) -> Path:
        return self.run.checkpoints / f"checkpoint-{step}"

    def _prune(self, keep: set[Path]) -> None:
        for folder in self.run.checkpoints.glob("checkpoint-*"):
            if folder not in keep:
                shutil.rmtree(folder)


def write_folder(folder: Path, fill: Callable[[Path], None]) -> None:
    """Make `folder` anew by filling a sibling, syncing it to disk and renaming it into place.

    Raises TrainingError when the disk is full or not writable; what was there before is then untouched.
    """
    fresh, old = folder.with_name(f".{folder.name}.new"), folder.with_name(f".{folder.name}.old")
    try:
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        fill(fresh)
        for file in [*fresh.rglob("*"), fresh]:
            _sync(file)
        if folder.exists():
            os.replace(folder, old)
        os.replace(fresh, folder)
        _sync(folder.parent)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        shutil.rmtree(fresh, ignore_errors=True)
        raise TrainingError(f"{folder} cannot be written ({error.strerror}); make room there and start again") from None


def write_json(file: Path, value: Any) -> None:
    """Strict JSON, by way of a rename: infinities and NaN become null."""
    fresh = file.with_name(f".{file.name}.new")
    fresh.write_text(json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(fresh, file)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return value


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
