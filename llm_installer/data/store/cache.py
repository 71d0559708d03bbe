"""Folders of converted data, found again by the content they were made from: complete, or absent, or rebuilt."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import xxhash
from filelock import BaseFileLock, FileLock

from llm_installer.core import examples

_MANIFEST = "whole.json"
_UNFINISHED = ".unfinished-"
_LOCK = ".lock"
"""Of the cache folder, and of each unfinished folder in it. The system frees both when their process ends, also by
kill -9."""
_BLOCK = 1 << 20
_UNUSED_DAYS = 30


def content_hash(path: Path) -> str:
    """A fast hash of a file's bytes, or of all files below a folder with their names. Raises OSError."""
    digest = xxhash.xxh3_128()
    for file in sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]:
        digest.update(f"{file.relative_to(path)}:{file.stat().st_size}:".encode(errors="surrogateescape"))
        with file.open("rb") as data:
            while block := data.read(_BLOCK):
                digest.update(block)
    return digest.hexdigest()


def code_hash() -> str:
    """A hash of the program that makes examples and rows, and of the types they are made of."""
    modules = [Path(examples.__file__), *sorted(Path(__file__).parents[1].rglob("*.py"))]
    return xxhash.xxh3_128_hexdigest(" ".join(map(content_hash, modules)).encode())


def cached(folder: Path, key: str, build: Callable[[Path], bool]) -> Path:
    """The folder `folder`/`key` with everything that `build` wrote into the temporary folder it was given.

    What was built before is used again when every byte of it is unchanged. Any number of processes may do this at
    once: each builds by itself, the first to finish wins, and what a killed one left behind is deleted. When `build`
    returns False its work is for this process alone. Raises OSError when `folder` cannot be written.
    """
    target = folder / key
    if _is_complete(target):
        os.utime(target)
        return target
    folder.mkdir(parents=True, exist_ok=True)
    work, lock = _start(folder)
    try:
        if not build(work):
            _IN_USE.append(lock)
            return work
        _publish(work, target, lock)
        return target
    finally:
        if lock not in _IN_USE:
            lock.release()
            shutil.rmtree(work, ignore_errors=True)


_IN_USE: list[BaseFileLock] = []
"""Locks of folders for this process alone. They end with it, and the next process to build deletes the folders."""


def _is_complete(target: Path) -> bool:
    try:
        files = json.loads((target / _MANIFEST).read_text(encoding="utf-8"))
        return all(content_hash(target / name) == digest for name, digest in files.items())
    except (OSError, ValueError, AttributeError):
        return False


def _alone_in(folder: Path) -> BaseFileLock:
    """The lock of the cache folder, held for the moments of looking and renaming. Open to all who share the folder."""
    return FileLock(folder / _LOCK, mode=0o666)


def _start(folder: Path) -> tuple[Path, BaseFileLock]:
    """A temporary folder and its lock: one without a lock was left behind."""
    with _alone_in(folder):
        _tidy(folder)
        work = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=folder))
        lock = FileLock(work / _LOCK)
        lock.acquire()
    return work, lock


def _publish(work: Path, target: Path, lock: BaseFileLock) -> None:
    """Give the finished work its name, unless another process was quicker."""
    files = {file.name: content_hash(file) for file in sorted(work.iterdir()) if file.name != _LOCK}
    (work / _MANIFEST).write_text(json.dumps(files), encoding="utf-8")
    with _alone_in(target.parent):
        if _is_complete(target):
            return
        shutil.rmtree(target, ignore_errors=True)
        lock.release()
        (work / _LOCK).unlink(missing_ok=True)  # some systems remove it on release
        os.rename(work, target)


def _tidy(folder: Path) -> None:
    """Delete what was left behind, and what nobody has used for a month."""
    for left in folder.glob(f"{_UNFINISHED}*"):
        # A Timeout, which is an OSError too: somebody works in it. Or it is another user's, or just gone.
        with suppress(OSError), FileLock(left / _LOCK, timeout=0):
            shutil.rmtree(left, ignore_errors=True)
    for manifest in folder.glob(f"*/{_MANIFEST}"):
        with suppress(FileNotFoundError):
            if time.time() - manifest.parent.stat().st_mtime > _UNUSED_DAYS * 86400:
                shutil.rmtree(manifest.parent, ignore_errors=True)
