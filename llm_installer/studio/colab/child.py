"""Processes that a notebook starts: their lines are printed as they come, and none outlives it.

The standard library is all that is used here.
"""

from __future__ import annotations

import ctypes
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

QUIET = 20.0
"""Seconds without a line after which one is printed: whoever drives a notebook by program takes silence for death."""
_LOOK = 0.5
"""Seconds between two looks whether a silent command has ended."""
PATIENCE = 120
"""Seconds that a training has for its last checkpoint when the notebook is interrupted."""
PARENT = "LLM_INSTALLER_NOTEBOOK"
"""The process of the notebook, without which the one that it started should not continue."""
_PRCTL = ctypes.CDLL(None).prctl if sys.platform == "linux" else None
_NOT_FOR_CHILDREN = ("PYTHONPATH", "PYTHONHOME", "PYTHONWARNINGS", "MPLBACKEND", "PYTHONSAFEPATH")
"""Variables that Colab sets for its own Python, and that would mislead another one."""


class StepFailed(RuntimeError):
    """A step of the notebook cannot be done; the message says why."""


def run(command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
    """Run a command in a process group of its own, and print its lines as they come.

    Nothing of the group is left afterwards, also where the notebook is interrupted. Raises StepFailed with the exit
    code.
    """
    own = {"PYTHONUNBUFFERED": "1", "MPLBACKEND": "Agg", PARENT: str(os.getpid()), **(environment or {})}
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        env={**inherited(), **own},
        start_new_session=True,
    )
    try:
        _print_lines(process)
        code = process.wait()
    finally:
        _end(process)
    if code:
        raise StepFailed(f"It ended with exit code {code}; the lines above say why.")


def inherited() -> dict[str, str]:
    """The environment of this process as far as another Python should see it."""
    return {name: value for name, value in os.environ.items() if name not in _NOT_FOR_CHILDREN}


def end_with_notebook() -> None:
    """SIGTERM to this process when the one that started it is gone, however. Only Linux can."""
    signal_at_death()
    if (parent := os.environ.get(PARENT)) and os.getppid() != int(parent):  # it went before it could be watched
        signal.raise_signal(signal.SIGTERM)


def signal_at_death() -> None:
    """The same without a look at who that was: for a child between fork and exec, of a process with one thread."""
    if _PRCTL:
        _PRCTL(1, signal.SIGTERM)


def _print_lines(process: subprocess.Popen[bytes]) -> None:
    """Until the command has ended; what it leaves behind may hold its output open for ever."""
    assert process.stdout is not None
    heard = time.monotonic()
    with selectors.DefaultSelector() as waiting:
        waiting.register(process.stdout, selectors.EVENT_READ)
        while True:
            if waiting.select(_LOOK):
                piece = os.read(process.stdout.fileno(), 1 << 16)
                if not piece:
                    return
                print(piece.decode("utf-8", "replace"), end="", flush=True)
                heard = time.monotonic()
            elif process.poll() is not None:
                return
            elif time.monotonic() - heard > QUIET:
                print("... still at work", flush=True)
                heard = time.monotonic()


def _end(process: subprocess.Popen[bytes]) -> None:
    """A training saves first; then nothing of the group is left."""
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdout:
        process.stdout.close()
