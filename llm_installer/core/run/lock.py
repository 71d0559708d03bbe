"""One training at a time in a model directory: who holds it is in the lock, and the system frees it at any death."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import IO

from llm_installer.core.errors import TrainingError
from llm_installer.core.paths import ModelDir, Run

_SIZE = 512
_held: set[IO[str]] = set()


@dataclass(frozen=True)
class Holder:
    """The training that goes on in a model directory."""

    pid: int
    """0 where it has not yet said so."""
    run: str
    """Id of its run; empty while it prepares one."""
    started: str
    """ISO time at which it took the directory."""

    def __str__(self) -> str:
        who = f"process {self.pid}" if self.pid else "another process"
        details = [f"run {self.run}"] if self.run else []
        details += [f"since {self.started.replace('T', ' ')}"] if self.started else []
        return who + (f" ({', '.join(details)})" if details else "")


@contextmanager
def only_training(folder: ModelDir, what: str = "is being trained already") -> Iterator[Callable[[Run], None]]:
    """Hold the right to train in `folder`; what is yielded is to be told the run, so that others can name it.

    Raises TrainingError that names the holder, as `what` is the case because of him.
    """
    try:
        file = os.fdopen(os.open(folder.lock, os.O_RDWR | os.O_CREAT, 0o644), "r+")
    except OSError as error:
        raise TrainingError(f"{folder.root} cannot be written to ({error.strerror}), so no run can be kept") from None
    with file:
        if not _taken(file):
            raise TrainingError(_refusal(folder, _read(file), what))
        _held.add(file)
        started = datetime.now().isoformat(timespec="seconds")
        _write(file, Holder(os.getpid(), "", started))

        def tell(run: Run) -> None:
            # Who asks something of the run learns its name from the lock: what lies here before that was for the dead.
            shutil.rmtree(run.requests, ignore_errors=True)
            run.requests.mkdir()
            _write(file, Holder(os.getpid(), run.id, started))

        try:
            yield tell
        finally:
            _held.discard(file)
            _write(file, None)
            fcntl.flock(file, fcntl.LOCK_UN)  # also for a child that was forked this moment


def holder(folder: ModelDir) -> Holder | None:
    """The training that goes on in `folder`; None when there is none."""
    try:
        file = folder.lock.open(encoding="utf-8")
    except OSError:
        return None
    with file:
        return None if _locks(file, fcntl.LOCK_SH) else _read(file)


def refuse_while_training(folder: ModelDir, what: str) -> None:
    """Raise TrainingError, which begins with `what` cannot be done, while a training goes on in `folder`."""
    if found := holder(folder):
        raise TrainingError(_refusal(folder, found, what))


def _refusal(folder: ModelDir, found: Holder, what: str) -> str:
    return (
        f"{folder.root.name} {what}: {found}; watch it with {folder.root}/train.sh --status, "
        f"end it with {folder.root}/train.sh --stop-now"
    )


def _taken(file: IO[str]) -> bool:
    """Take the lock, unless a training holds it. Who only looks shares it for a moment, and is no reason to refuse."""
    while not _locks(file, fcntl.LOCK_EX):
        if not _locks(file, fcntl.LOCK_SH):
            return False
        fcntl.flock(file, fcntl.LOCK_UN)
    return True


def _locks(file: IO[str], how: int) -> bool:
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write(file: IO[str], who: Holder | None) -> None:
    """One write of one length, so that a reader finds what was there before or what is there now."""
    os.pwrite(file.fileno(), (json.dumps(asdict(who)) if who else "").encode().ljust(_SIZE), 0)


def _read(file: IO[str]) -> Holder:
    try:
        return Holder(**json.loads(os.pread(file.fileno(), _SIZE, 0)))
    except (ValueError, TypeError):  # taken this moment, or just given back
        return Holder(0, "", "")


def _leave_to_parent() -> None:
    """A forked child must not keep the lock when its parent is killed."""
    for file in _held:
        file.close()
    _held.clear()


os.register_at_fork(after_in_child=_leave_to_parent)
