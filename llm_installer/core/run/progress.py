"""How far a run is, as other programs read it: status.json in its folder, complete at any time."""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass

from llm_installer.core.files import finite
from llm_installer.core.json_file import read_fields
from llm_installer.core.paths import Run


@dataclass(frozen=True)
class Progress:
    """The state of a run at one time; None where a number is not known yet."""

    run: str
    step: int
    total_steps: int
    """0 where the run has no end of its own."""
    epoch: float
    epochs: float | None
    loss: float | None
    """Of the last step."""
    measured_at: int
    """Step of the last evaluation."""
    train_loss: float | None
    validation_loss: float | None
    base_loss: float | None
    best_loss: float | None
    best_step: int
    tokens_per_second: float | None
    elapsed: float
    """Seconds since the run began, over all sessions."""
    remaining: float | None
    """Seconds to the last step."""
    checkpoint: str
    """Name of the newest checkpoint; empty before the first."""
    training: bool
    """False once the last step is done: the adapter is then published and compared with the base."""
    updated: float
    """When this was written, in seconds since 1970."""

    def write(self, run: Run) -> None:
        """Replace the run's status.json. It is not synced to disk: after a crash nobody needs it."""
        temporary = run.progress.with_name(f".{run.progress.name}.new")
        temporary.write_text(json.dumps(finite(dataclasses.asdict(self))) + "\n", encoding="utf-8")
        os.replace(temporary, run.progress)

    @classmethod
    def read(cls, run: Run) -> Progress | None:
        """What is in the run's folder; None where there is nothing, or nothing readable."""
        return read_fields(cls, run.progress)
