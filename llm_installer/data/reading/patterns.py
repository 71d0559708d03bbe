"""Patterns with *, ? and [] for file names, as a shell reads them; circles of links do no harm."""

from __future__ import annotations

import fnmatch
import glob
import os
from collections.abc import Callable, Iterator
from pathlib import Path


def matches(pattern: str, base: Path) -> list[Path]:
    """The files and folders that match a pattern, sorted; ** stands for any folders. Empty without *, ? or [."""
    if not glob.has_magic(pattern):
        return []
    path = base / os.path.expanduser(pattern)
    return sorted(set(_expanded(Path(path.anchor), path.parts[1:])))


def folders(start: Path, enter: Callable[[Path], bool] = bool) -> Iterator[Path]:
    """A folder and all folders below it, each once however many links lead there.

    Hidden folders and those that programs make for themselves are skipped, and so is what is below a folder for which
    `enter` is false.
    """
    visited: set[tuple[int, int]] = set()
    waiting = [start]
    while waiting:
        folder = waiting.pop()
        status = folder.stat()
        if (status.st_dev, status.st_ino) in visited:
            continue
        visited.add((status.st_dev, status.st_ino))
        yield folder
        if enter(folder):
            inner = (folder / name for name in sorted(os.listdir(folder), reverse=True) if not is_hidden(name))
            waiting += [path for path in inner if path.is_dir()]


def is_hidden(name: str) -> bool:
    """Whether a name is hidden, or that of a folder that programs make for themselves."""
    return name.startswith(".") or name in ("__pycache__", "__MACOSX")


def _expanded(folder: Path, parts: tuple[str, ...]) -> Iterator[Path]:
    if not parts:
        yield folder
        return
    first, rest = parts[0], parts[1:]
    if first == "**" and folder.is_dir():
        for below in folders(folder):
            yield from _expanded(below, rest or ("*",))
    elif not glob.has_magic(first):
        if os.path.lexists(folder / first):
            yield from _expanded(folder / first, rest)
    elif folder.is_dir():
        for name in os.listdir(folder):
            if fnmatch.fnmatchcase(name, first) and (first.startswith(".") or not is_hidden(name)):
                yield from _expanded(folder / name, rest)
