"""Checkpoints that workers elsewhere send: which files of a run's folder they are made of.

Another worker that takes the job over puts these files into a run's folder of its own, and resumes from there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from llm_installer.studio import blobs
from llm_installer.studio.results import NotAccepted, ResultFile

NEEDED = ("run.json", "plan.json")
"""Files without which nothing can be resumed."""
BESIDE = ("metrics.jsonl", "samples.jsonl", "own_text.jsonl", "dropped.jsonl")
"""Files that a resumed run goes on with."""
_OF_CHECKPOINT = re.compile(r"checkpoints/checkpoint-(\d{1,9})/([a-z_]{1,30}\.(?:safetensors|pt|json))")
RUN = re.compile(r"\d{8}-\d{6}-[a-z][a-z-]{0,30}(-\d{1,3})?")
"""Ids of runs."""
MOST_FILES = 40


def step_of(path: str) -> int | None:
    """The step of the checkpoint that a file belongs to; None for a file beside it."""
    found = _OF_CHECKPOINT.fullmatch(path)
    return int(found[1]) if found else None


def accepted(folder: Path, run: str, step: int, files: Sequence[ResultFile]) -> None:
    """Raise NotAccepted where this is not one checkpoint of one run, or was not sent completely."""
    if not RUN.fullmatch(run):
        raise NotAccepted(f"{run[:80]!r} is not the id of a run")
    names = [file.path for file in files]
    beside = {name for name in names if step_of(name) is None}
    if strange := sorted(beside - {*NEEDED, *BESIDE}):
        raise NotAccepted(f"A checkpoint has no file {strange[0][:80]!r}")
    if any(step_of(name) != step for name in set(names) - beside) or len(names) == len(beside):
        raise NotAccepted(f"A checkpoint of step {step} has files of that step only")
    if missing := [name for name in NEEDED if name not in names]:
        raise NotAccepted(f"The checkpoint lacks {missing[0]}")
    if len(names) != len(set(names)) or len(names) > MOST_FILES:
        raise NotAccepted("A file of the checkpoint is there twice, or there are too many")
    for file in files:
        if blobs.received(folder, file.sha256) != (file.bytes, True):
            raise NotAccepted(f"{file.path} was not sent completely")
