"""The process between a worker and a job's command, started as a file of its own: it imports nothing of this program.

It leads a process group. When the worker is gone, however that came, its end of the pipe closes, and the command is
killed with all it started. A line "stop" on the pipe asks the command to end well.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

EVERY = 0.2
"""Seconds between two looks at the command."""


def main(command: list[str]) -> int:
    """Run a command to its end; its exit code, 128 + n after signal n."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # they are for the command
    me = os.getpid()
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=lambda: _ready(me))
    open_pipe = True
    while child.poll() is None:
        ready = open_pipe and select.select([0], [], [], EVERY)[0]
        if not ready:
            continue
        said = os.read(0, 4096)
        if not said:
            kill_all(child.pid)
            open_pipe = False
        elif b"stop" in said:
            child.terminate()
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def _ready(keeper: int) -> None:
    """In the command before it begins: it takes signals as usual, and on Linux dies with its keeper."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != keeper:
            os._exit(1)


def kill_all(top: int) -> None:
    """Kill a process and everything below it, also what leads groups of its own."""
    for pid in [*below(top), top]:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def below(top: int) -> list[int]:
    """The processes that a process started, and those that they started; Linux alone can tell."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            parent = int((entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(entry.name))
    found, waiting = [], [top]
    while waiting:
        more = children.get(waiting.pop(), [])
        found += more
        waiting += more
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
