"""What another shell asks of a run in progress: to save or to stop, each as a file in the run's `requests` folder.

The run deletes a request to save once the checkpoint is written, and a request to stop as soon as it has read it; that
the training has ended then shows in its lock.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from llm_installer.core.errors import TrainingError
from llm_installer.core.paths import Run

SAVE, STOP = "save", "stop"
"""How the names of requests begin."""
STOP_REASON = "you asked it to stop with --stop-now"
"""Why a run ended that met a request to stop: it is done; one that a signal ended goes on when it is resumed."""


def write_request(run: Run, kind: str) -> Path:
    """Leave this process's request for the run, and return its file. Raises TrainingError when it cannot be written."""
    request = run.requests / f"{kind}-{os.getpid()}"
    try:
        run.requests.mkdir(exist_ok=True)
        request.touch()
    except OSError as error:
        raise TrainingError(
            f"{run.requests} cannot be written to ({error.strerror}), so run {run.id} cannot be asked; "
            "send its process SIGTERM to stop it with a checkpoint"
        ) from None
    return request


def pending_requests(run: Run) -> list[Path]:
    """The requests that the run has not met yet; none where the folder is missing."""
    with contextlib.suppress(FileNotFoundError):
        return [run.requests / name for name in os.listdir(run.requests)]
    return []
