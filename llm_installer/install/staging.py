"""Model directories appear whole or not at all: the lock, the staging folder, and the swap that replaces a model."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from llm_installer.core.errors import InstallerError
from llm_installer.core.paths import ModelDir, cache_dir, models_dir
from llm_installer.install.files import discard, write_text

_REPLACED = ".replaced"
_TRASH = ".trash"


def staging_dir(dirname: str) -> ModelDir:
    """Where the directory `dirname` is built before it gets its name."""
    return ModelDir(models_dir() / f".{dirname}.installing")


@contextmanager
def only_one(dirname: str) -> Iterator[None]:
    """Hold the right to change the directory `dirname`. The system gives it back when the process dies."""
    locks = cache_dir() / "locks"
    try:
        models_dir().mkdir(parents=True, exist_ok=True)
        locks.mkdir(parents=True, exist_ok=True)
        lock = (locks / f"{dirname}.lock").open("w")
    except OSError as error:
        raise InstallerError(
            f"{models_dir().parent} cannot be written to ({error.strerror}); set LLM_HOME to a folder that can"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InstallerError(
                f"{dirname} is being installed or removed by another process; wait for it, or choose another --name"
            ) from None
        yield


def publish(staging: ModelDir, target: ModelDir) -> None:
    """Give the finished staging folder its name; into an existing directory only its model and record are moved.

    What the user made (runs, links, notes) is never moved. Each step is one rename, and until the last of them
    `undo_half_swap` restores the old model.
    """
    if not target.root.exists():
        os.rename(staging.root, target.root)
        return
    old = ModelDir(target.root / _REPLACED)
    old.root.mkdir()
    if target.info.exists():
        write_text(old.info, target.info.read_text(encoding="utf-8"))
    if os.path.lexists(target.weights):
        os.rename(target.weights, old.weights)
    os.rename(staging.weights, target.weights)
    os.replace(staging.info, target.info)
    os.rename(old.root, target.root / _TRASH)
    discard(target.root / _TRASH)
    discard(staging.root)


def undo_half_swap(target: ModelDir) -> None:
    """Put the old model back where a kill or a power cut stopped `publish` half-way."""
    if not target.root.is_dir():
        return
    old = ModelDir(target.root / _REPLACED)
    if os.path.lexists(old.weights):
        discard(target.weights)
        os.rename(old.weights, target.weights)
    if old.info.exists():
        os.replace(old.info, target.info)
    discard(old.root)
    discard(target.root / _TRASH)
