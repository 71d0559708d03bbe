"""Model directories appear complete or not at all: the lock, the staging folder, and the swap that replaces a model."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from llm_installer.core.errors import InstallerError
from llm_installer.core.files import write_text
from llm_installer.core.home import cache_dir, models_dir
from llm_installer.core.paths import ModelDir
from llm_installer.core.text import short_path
from llm_installer.install.disk import delete

_REPLACED = ".replaced"
_TRASH = ".trash"


def staging_dir(dirname: str) -> ModelDir:
    """Where the directory `dirname` is built before it gets its name."""
    return staging_of(models_dir() / dirname)


def staging_of(root: Path) -> ModelDir:
    """Where the directory `root` is built before it gets its name: beside it, so that one rename is enough."""
    return ModelDir(root.with_name(f".{root.name}.installing"))


def removing_dir(root: Path) -> Path:
    """What the directory `root` is called while it is deleted."""
    return root.parent / f".{root.name}.removing"


@contextmanager
def directory_lock(dirname: str, option: str = "--name", doing: str = "") -> Iterator[None]:
    """Hold the right to change the directory `dirname`. The system frees it when the process dies.

    `option` is the one that chooses another directory, `doing` what another process does that holds it.

    Raises InstallerError where another process holds it, or LLM_HOME cannot be written to.
    """
    locks = cache_dir() / "locks"
    lock = FileLock(locks / f"{dirname}.lock")
    try:
        models_dir().mkdir(parents=True, exist_ok=True)
        locks.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=False)
    except Timeout:
        what = doing or f"installing or removing {dirname}"
        raise InstallerError(f"Another process is {what}; wait for it, or choose another {option}") from None
    except OSError as error:
        raise InstallerError(
            f"{short_path(models_dir().parent)} cannot be written to ({error.strerror}); "
            f"set LLM_HOME to a folder that can be"
        ) from error
    try:
        yield
    finally:
        lock.release()


def publish(staging: ModelDir, target: ModelDir) -> None:
    """Give the finished staging folder its name; into an existing directory only its model and record are moved.

    What the user made (runs, links, notes) is never moved. Each step is one rename, and until the last of them
    `undo_interrupted_swap` restores the old model.
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
    delete(target.root / _TRASH)
    delete(staging.root)


def undo_interrupted_swap(target: ModelDir) -> None:
    """Restore the old model where a kill or a power cut stopped `publish` half-way."""
    if not target.root.is_dir():
        return
    old = ModelDir(target.root / _REPLACED)
    if os.path.lexists(old.weights):
        delete(target.weights)
        os.rename(old.weights, target.weights)
    if old.info.exists():
        os.replace(old.info, target.info)
    delete(old.root)
    delete(target.root / _TRASH)
