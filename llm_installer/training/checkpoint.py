"""Adapters and checkpoints, written and read: a folder is complete or absent."""

from __future__ import annotations

import dataclasses
import io
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file
from safetensors.torch import save as save_tensors
from torch import Tensor

from llm_installer.core.errors import TrainingError
from llm_installer.core.files import switch_link, write_folder, write_json
from llm_installer.core.paths import Run
from llm_installer.core.run.checkpoints import (
    ADAPTER_FILE,
    BEST_FILE,
    FIRST_FILE,
    OPTIMIZER_FILE,
    RANDOM_FILE,
    STATE_FILE,
    checkpoint_folder,
    read_state,
    resumable,
)
from llm_installer.core.state import RunState
from llm_installer.core.text import short_path, size
from llm_installer.models.end_token import ROW, taught_rows
from llm_installer.models.peft_names import config_for_files
from llm_installer.planning.saving import KEPT, SAVE_COST, SAVE_SECONDS

Weights = dict[str, Tensor]


def adapter_weights(model: PeftModel) -> Weights:
    """A copy of the adapter, on the CPU, under the names PEFT saves it by."""
    # A LoRA on the output layer needs no copy of the layer itself beside it, for that does not change.
    found = get_peft_model_state_dict(model, save_embedding_layers=False)
    return {k: v.detach().to("cpu", copy=True).contiguous() for k, v in found.items()}


def load_weights(model: PeftModel, weights: Weights) -> None:
    """Put adapter weights back into the model they were copied from."""
    set_peft_model_state_dict(model, {name: weight for name, weight in weights.items() if not name.endswith(ROW)})


def save_adapter(folder: Path, model: PeftModel, weights: Weights, extra: Callable[[Path], None]) -> None:
    """Write a PEFT adapter to `folder`, replacing it as a whole; `extra` adds files before it appears."""

    def fill(fresh: Path) -> None:
        # As bytes: safetensors and torch hide a full disk behind errors of their own.
        (fresh / ADAPTER_FILE).write_bytes(save_tensors({**weights, **taught_rows(model)}, metadata={"format": "pt"}))
        config_for_files(model).save_pretrained(str(fresh))
        extra(fresh)

    write_folder(folder, fill)


@dataclass(frozen=True)
class Checkpoint:
    """A run's state at one step, read back: everything that resuming needs."""

    folder: Path
    state: RunState
    weights: Weights
    best: Weights
    optimizer: dict[str, Any]
    random: list[Tensor]
    first: Weights | None
    """The weights that the run began with; None once others are better, for then nothing goes back to them."""


class CheckpointWriter:
    """Saves when a checkpoint is due and at the end; keeps what planning.saving says."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._saved_at = time.monotonic()
        self._cost = 0.0
        self._recorded = run.record.exists()

    def due(self, evaluated: bool) -> bool:
        """Whether it is time to save, just after an evaluation or between two."""
        passed = time.monotonic() - self._saved_at
        return passed >= SAVE_SECONDS or (evaluated and passed * SAVE_COST >= self._cost)

    def write(
        self, model: PeftModel, optimizer: dict[str, Any], state: RunState, best: Weights, first: Weights | None
    ) -> None:
        """Write checkpoint-<step>, and the best one too where that is another. Raises TrainingError on a full disk."""
        began = time.monotonic()
        if self._recorded and not self.run.record.exists():
            raise TrainingError(
                f"{short_path(self.run.root)} was removed while its run was training, so nothing can be kept; "
                "train again"
            )

        def fill(fresh: Path) -> None:
            (fresh / OPTIMIZER_FILE).write_bytes(_pickled(optimizer))
            (fresh / RANDOM_FILE).write_bytes(_pickled(random_state()))
            (fresh / BEST_FILE).write_bytes(save_tensors(best))
            if first is not None:
                (fresh / FIRST_FILE).write_bytes(save_tensors(first))
            write_json(fresh / STATE_FILE, dataclasses.asdict(state))

        last, best_folder = checkpoint_folder(self.run, state.step), checkpoint_folder(self.run, state.best_step)
        save_adapter(last, model, adapter_weights(model), fill)
        switch_link(self.run.checkpoints / "last", last)
        if state.best_step:
            if not best_folder.is_dir():
                save_adapter(best_folder, model, best, lambda fresh: None)
            switch_link(self.run.checkpoints / "best", best_folder)
        self._prune(keep=best_folder)
        self._saved_at = time.monotonic()
        self._cost = self._saved_at - began

    def _prune(self, keep: Path) -> None:
        stay = [keep, *resumable(self.run)[:KEPT]]
        for folder in self.run.checkpoints.glob("checkpoint-*"):
            if folder not in stay:
                shutil.rmtree(folder)


def check_room(folder: Path, model: PeftModel) -> None:
    """Raise TrainingError when the disk below `folder` has no room for all checkpoints that are kept at once."""
    adapter = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    # Adapter, first, best and two moments in each checkpoint; one more while it is written, and the published adapter.
    needed = adapter * (5 * (KEPT + 2) + 2)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise TrainingError(
            f"The checkpoints need {size(needed)}, {size(needed - free)} more than {short_path(folder)} has free; "
            "make room there, or set a lower --lora-r"
        )


def read_checkpoint(folder: Path) -> Checkpoint:
    """Everything that resuming needs. Raises TrainingError when the folder is damaged."""
    state, first = read_state(folder), folder / FIRST_FILE
    return Checkpoint(
        folder=folder,
        state=state,
        weights=load_file(folder / ADAPTER_FILE),
        best=load_file(folder / BEST_FILE),
        optimizer=torch.load(folder / OPTIMIZER_FILE, weights_only=True, map_location="cpu"),
        random=torch.load(folder / RANDOM_FILE, weights_only=True),
        first=load_file(first) if first.exists() else None,
    )


def random_state() -> list[Tensor]:
    """The generators that training draws from: the CPU's, then each CUDA device's."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return [torch.get_rng_state(), *cuda]


def set_random_state(states: list[Tensor]) -> None:
    """Draw on from where random_state was taken."""
    torch.set_rng_state(states[0])
    for device, state in enumerate(states[1 : 1 + torch.cuda.device_count()]):
        torch.cuda.set_rng_state(state, device)


def _pickled(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()
