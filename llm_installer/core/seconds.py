"""Where the seconds of one command go: each is in exactly one phase, from its start to its last line."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

PHASES = {
    "start": "start",
    "read": "read",
    "encode": "encode",
    "load": "load",
    "rehearse": "memory probe",
    "train": "train",
    "evaluate": "evaluate",
    "save": "save",
    "report": "report",
    "compare": "compare",
    "answer": "answers",
}
"""Key -> name for the user, in the order in which they come. `start` is Python, its libraries and the plan, `report`
what is told to a terminal, files and trackers."""


class Ledger:
    """The phases of a command that runs; one of them is on at any time."""

    def __init__(self, began: float) -> None:
        """`began` is when the command was started, by the monotonic clock."""
        self._began = self._since = began
        self._phase = "start"
        self._spent: dict[str, float] = {}

    def turn(self, phase: str) -> str:
        """Count for this phase from now on; the one that was on before."""
        assert phase in PHASES, phase
        now = time.monotonic()
        self._spent[self._phase] = self._spent.get(self._phase, 0.0) + now - self._since
        before, self._phase, self._since = self._phase, phase, now
        return before

    def so_far(self) -> dict[str, float]:
        """Seconds by phase; together they are all since the command was started."""
        self.turn(self._phase)
        return dict(self._spent)


_open: list[Ledger] = []
"""Of the command that runs in this process; none in somebody else's program."""


@contextmanager
def keeping(began: float) -> Iterator[Ledger]:
    """Keep a ledger while this lasts."""
    _open.append(Ledger(began))
    try:
        yield _open[-1]
    finally:
        _open.pop()


def turn(phase: str) -> str:
    """What is not in a phase of its own counts for this one from now on; the one before. Nothing without a ledger."""
    return _open[-1].turn(phase) if _open else phase


def so_far() -> dict[str, float]:
    """Seconds of the command that runs, by phase; empty without a ledger."""
    return _open[-1].so_far() if _open else {}


def said(seconds: dict[str, float]) -> str:
    """One line for the end of a command: each phase that took half a second, the rest of them together, and the sum."""
    shown = {key: seconds[key] for key in PHASES if seconds.get(key, 0.0) >= 0.5}
    other = sum(seconds.values()) - sum(shown.values())
    parts = [f"{PHASES[key]} {spent:.1f}" for key, spent in shown.items()]
    parts += [f"other {other:.1f}"] if other >= 0.05 else []
    return f"Seconds: {', '.join(parts)}; {sum(seconds.values()):.1f} in all."


def process_began() -> float:
    """When this process was started, by the monotonic clock; now, where the system does not tell (proc(5))."""
    now = time.monotonic()
    try:
        with open("/proc/self/stat", encoding="utf-8", errors="replace") as file:
            ticks = int(file.read().rpartition(")")[2].split()[19])
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        return now
    return now - age if 0 <= age < 3600 else now
