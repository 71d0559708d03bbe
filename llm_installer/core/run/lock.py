"""One training at a time in a model directory: a lock that the system frees at any death, and who holds it.

filelock has exclusive locks only, and whoever only looks has to try the lock to see whether it is free. So that nobody
takes a look for a training, each try happens while a second lock, the gate, is held; nobody keeps that one for longer
than a try takes. docs/decisions/locks.md says why.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import IO
from weakref import WeakSet

from filelock import lock_descriptor, unlock_descriptor

from llm_installer.core.errors import TrainingError
from llm_installer.core.hints import script
from llm_installer.core.paths import ModelDir, Run
from llm_installer.core.run.record import RunRecord
from llm_installer.core.text import short_path

_START, _SIZE = 1, 512
"""Where the holder is written. Byte 0 is what Windows locks, and nobody else can read a locked byte there."""
_SECONDS_BETWEEN_TRIES = 0.001
_open_files: WeakSet[IO[bytes]] = WeakSet()


@dataclass(frozen=True)
class Holder:
    """The training that is running in a model directory."""

    pid: int
    """0 where it has not said so yet."""
    run: str
    """Id of its run; empty while it prepares one."""
    started: str
    """ISO time at which its run began or was resumed; at which it took the lock while it prepares one."""

    @property
    def suspended(self) -> bool:
        """Whether the process does nothing until it is told to continue, as after Ctrl-Z; False where nothing tells."""
        try:
            state = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2]
        except OSError:
            return False
        return state.split()[0] in ("T", "t")

    def __str__(self) -> str:
        who = f"process {self.pid}" if self.pid else "another process"
        details = [f"run {self.run}"] if self.run else []
        details += [f"since {self.started.replace('T', ' ')}"] if self.started else []
        return who + (f" ({', '.join(details)})" if details else "")


@contextmanager
def only_training(folder: ModelDir, what: str = "is already being trained") -> Iterator[Callable[[Run], None]]:
    """Hold the lock of `folder`; what is yielded must be told the run, so that others can name it.

    Raises TrainingError where `folder` cannot be written to, and where another training holds the lock: the message
    begins with the name of the folder and `what`, and names the holder.
    """
    started = datetime.now().isoformat(timespec="seconds")
    try:
        with _gate(folder):
            lock = _opened(folder.lock)
            found = _holder_unless_locked(lock)
            if not found:
                _write(lock, Holder(os.getpid(), "", started))
    except OSError as error:
        raise TrainingError(
            f"{short_path(folder.root)} cannot be written to ({error.strerror}), so no run can be kept there"
        ) from None
    if found:
        lock.close()
        raise TrainingError(_refusal(folder, found, what))

    def tell(run: Run) -> None:
        # Whoever has a request for the run learns its name from the lock: requests from before that are out of date.
        shutil.rmtree(run.requests, ignore_errors=True)
        run.requests.mkdir()
        record = RunRecord.read(run)
        # A new run began after its lock was taken. Whoever asks is told one time for both.
        _write(lock, Holder(os.getpid(), run.id, max(started, record.started if record else "")))

    try:
        yield tell
    finally:
        _write(lock, None)
        _release(lock)


def holder(folder: ModelDir) -> Holder | None:
    """The training that is running in `folder`; None when there is none. Never makes a training wait or fail."""
    try:
        if not folder.lock.exists():
            return None
        with _gate(folder, for_reading=True):
            lock = _opened(folder.lock, for_reading=True)
            found = _holder_unless_locked(lock)
            lock.close() if found else _release(lock)
    except OSError:
        return None
    return found


def refuse_while_training(folder: ModelDir, what: str) -> None:
    """Raise TrainingError, which says that `folder` `what` and names the holder, while a training is running there."""
    if found := holder(folder):
        raise TrainingError(_refusal(folder, found, what))


def _refusal(folder: ModelDir, found: Holder, what: str) -> str:
    command = script(folder.root)
    return f"{folder.root.name} {what}: {found}; watch it with {command} --status, end it with {command} --stop-now"


@contextmanager
def _gate(folder: ModelDir, for_reading: bool = False) -> Iterator[None]:
    """The right to try the lock of `folder`. Waits for whoever tries it at this moment."""
    gate = _opened(folder.lock_gate, for_reading)
    lock_descriptor(gate.fileno(), poll_interval=_SECONDS_BETWEEN_TRIES)
    try:
        yield
    finally:
        _release(gate)


def _opened(file: Path, for_reading: bool = False) -> IO[bytes]:
    """A lock file, made where it is missing. Whoever only reads may do so in somebody else's folder too."""
    try:
        file.touch()
        opened = file.open("r+b", buffering=0)
    except OSError:
        if not for_reading:
            raise
        opened = file.open("rb", buffering=0)
    _open_files.add(opened)
    return opened


def _holder_unless_locked(lock: IO[bytes]) -> Holder | None:
    """Lock the file and return None; where it is locked already, return its holder."""
    return None if lock_descriptor(lock.fileno(), blocking=False) else _read(lock)


def _release(lock: IO[bytes]) -> None:
    """Unlock and close. Closing alone would leave it locked by a child that was forked this moment."""
    with lock:
        unlock_descriptor(lock.fileno())


def _write(lock: IO[bytes], who: Holder | None) -> None:
    """One write of one length, so that a reader finds what was there before or what is there now."""
    lock.seek(_START)
    lock.write((json.dumps(asdict(who)) if who else "").encode().ljust(_SIZE))


def _read(lock: IO[bytes]) -> Holder:
    lock.seek(_START)
    try:
        return Holder(**json.loads(lock.read(_SIZE)))
    except (ValueError, TypeError):  # just given back
        return Holder(0, "", "")


def _leave_to_parent() -> None:
    """A forked child must not keep a lock when its parent is killed."""
    for file in list(_open_files):
        file.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)
