"""What a run was asked, with which data and model, and how it stands: run.json of its folder."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llm_installer.core.files import write_json
from llm_installer.core.paths import Run

RUNNING, STOPPED, FINISHED, FAILED = "running", "stopped", "finished", "failed"
"""A run that was killed still says `running`; whether it is, only its lock can tell."""


@dataclass(frozen=True)
class RunRecord:
    """One run, as its folder remembers it."""

    status: str
    started: str
    """ISO time."""
    options: dict[str, Any]
    """What the user gave; what was left to choose is in plan.json."""
    base: str
    """The folder that relative paths of the options are below."""
    rows: str
    """Fingerprint of the encoded rows of both sides: data, split, tokenizer, template and length in one."""
    files: dict[str, str]
    """Content hash of each data file."""
    model: str
    """Fingerprint of the base weights."""
    data: str
    """The data, in the user's words."""
    result: dict[str, Any] = field(default_factory=dict)
    """Steps, losses and why it ended, once it has."""

    def write(self, run: Run) -> None:
        """Write it to the run's folder."""
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
