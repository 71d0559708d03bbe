"""A job's command as a child of the worker, behind its keeper; what it says goes to a file."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

from llm_installer.core.text import shortened
from llm_installer.studio.worker import keeper

PATIENCE = 180.0
"""Seconds that a command has to save its work before it is killed."""
_TAIL = 8192
NOT_SAID = "It ended without a word"


class Child:
    """A command of this program that runs."""

    def __init__(self, words: list[str], log: Path) -> None:
        self._log = log
        command = [sys.executable, keeper.__file__, sys.executable, "-u", "-m", "llm_installer", *words]
        with log.open("ab") as out:
            self._start = out.tell()
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
            )

    def poll(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._process.poll()

    def ask_to_stop(self) -> None:
        """Let it save its work and end."""
        with contextlib.suppress(OSError):
            assert self._process.stdin is not None
            self._process.stdin.write(b"stop\n")
            self._process.stdin.flush()

    def wait(self, seconds: float) -> bool:
        """Whether it ended within that time."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def stop(self, patience: float = PATIENCE) -> None:
        """End it well, or kill it where that takes too long."""
        self.ask_to_stop()
        if not self.wait(patience):
            self.kill()

    def kill(self) -> None:
        """Kill it with everything that it started."""
        if self._process.poll() is None:
            keeper.kill_all(self._process.pid)
        self._process.wait()

    def close(self) -> None:
        """Nothing of it is left."""
        self.kill()
        with contextlib.suppress(OSError):
            if self._process.stdin:
                self._process.stdin.close()

    def why(self) -> str:
        """What it said last: the sentence after "Error:" where there is one."""
        with self._log.open("rb") as said:
            said.seek(max(self._start, self._log.stat().st_size - _TAIL))
            lines = said.read().decode("utf-8", "replace").replace("\r", "\n").split("\n")
        spoken = [line.strip() for line in lines if line.strip()]
        errors = [line.removeprefix("Error:").strip() for line in spoken if line.startswith("Error:")]
        return shortened((errors or spoken or [NOT_SAID])[-1], 2000)
