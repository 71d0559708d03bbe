"""Folders of converted data, known by the content they were made from: whole, or absent, or made again."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import xxhash

from llm_installer.core import examples

_MANIFEST = "whole.json"
_UNFINISHED = ".unfinished-"
_BLOCK = 1 << 20
_UNUSED_DAYS = 30


def content_hash(path: Path) -> str:
    """A fast hash of a file's bytes, or of all files below a folder with their names."""
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
    """A folder with everything that `build` wrote into the one it was given: `folder`/`key`, to be used again.

    What was built before is used when every byte of it is still right. Any number of processes may do this at once:
    each builds by itself, the first to finish wins, and what a killed one left behind is cleared away. When `build`
    returns False its work is for this process alone.
    """
    target = folder / key
    if _is_whole(target):
        os.utime(target)
        return target
    folder.mkdir(parents=True, exist_ok=True)
    work, lock = _begin(folder)
    try:
        if not build(work):
            _IN_USE.append(lock)
            return work
        files = {file.name: content_hash(file) for file in sorted(work.iterdir())}
        (work / _MANIFEST).write_text(json.dumps(files), encoding="utf-8")
        with _locked(folder):
            if not _is_whole(target):
                shutil.rmtree(target, ignore_errors=True)
                os.rename(work, target)
        return target
    finally:
        if lock not in _IN_USE:
            os.close(lock)
            shutil.rmtree(work, ignore_errors=True)


_IN_USE: list[int] = []
"""Locks of folders for this process alone. They end with it, and whoever builds next clears the folders away."""


def _is_whole(target: Path) -> bool:
    try:
        files = json.loads((target / _MANIFEST).read_text(encoding="utf-8"))
        return all(content_hash(target / name) == digest for name, digest in files.items())
    except (OSError, ValueError, AttributeError):
        return False


def _begin(folder: Path) -> tuple[Path, int]:
    """A folder to work in and its lock, which lasts as long as the process: one without a lock was left behind."""
    with _locked(folder):
        _tidy(folder)
        work = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=folder))
        lock = os.open(work, os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_EX)
    return work, lock


def _tidy(folder: Path) -> None:
    """Clear away what was left behind, and what nobody has used for a month."""
    for left in folder.glob(f"{_UNFINISHED}*"):
        with suppress(FileNotFoundError):
            handle = os.open(left, os.O_RDONLY)
            with suppress(BlockingIOError):
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
            os.close(handle)
    for manifest in folder.glob(f"*/{_MANIFEST}"):
        with suppress(FileNotFoundError):
            if time.time() - manifest.parent.stat().st_mtime > _UNUSED_DAYS * 86400:
                shutil.rmtree(manifest.parent, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Alone in `folder` for the moments of looking and renaming."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
