"""run.json of a run's folder, read and written: its options, data and model, its status and result."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llm_installer.core.files import write_json
from llm_installer.core.paths import Run

RUNNING, STOPPED, FINISHED, FAILED = "running", "stopped", "finished", "failed"
"""A run that was killed still says `running`; only the lock tells whether it is."""


@dataclass(frozen=True)
class RunRecord:
    """One run, as its folder remembers it."""

    status: str
    started: str
    """ISO time, in the local time zone."""
    options: dict[str, Any]
    """What the user gave; what was chosen is in plan.json."""
    base: str
    """The folder that relative paths in the options start from."""
    rows: str
    """Fingerprint of the encoded training and validation rows: of data, split, tokenizer, template and length."""
    files: dict[str, str]
    """Content hash of each data file, by its path."""
    model: str
    """Fingerprint of the base weights."""
    data: str
    """The data, in the user's words."""
    result: dict[str, Any] = field(default_factory=dict)
    """Steps, losses and why it ended, once it has ended."""

    def write(self, run: Run) -> None:
        """Write it to the run's folder. Raises OSError."""
        write_json(run.record, dataclasses.asdict(self))

    @classmethod
    def read(cls, run: Run) -> RunRecord | None:
        """The record in the run's folder; None where there is none that can be read."""
        return cls.at(run.record)

    @classmethod
    def at(cls, file: Path) -> RunRecord | None:
        """The record in `file`; None where there is none that can be read."""
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
            return cls(**{f.name: values[f.name] for f in dataclasses.fields(cls)})
        except (OSError, ValueError, KeyError, TypeError):
            return None
