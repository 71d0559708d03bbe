"""Files and folders that are complete or absent, never half written."""

from __future__ import annotations

import ctypes
import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llm_installer.core.errors import TrainingError
from llm_installer.core.manifest import write_manifest

_EXCHANGE = 2
_HERE = -100
"""RENAME_EXCHANGE and AT_FDCWD of renameat2(2)."""


def write_folder(folder: Path, fill: Callable[[Path], None]) -> None:
    """Make `folder` anew: fill a sibling, add a manifest, sync all of it to disk, then put it in place by one rename.

    Raises TrainingError when the disk is full or not writable; what was there before is then untouched.
    """
    fresh = folder.with_name(f".{folder.name}.new")
    try:
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        fill(fresh)
        write_manifest(fresh)
        for file in [*fresh.rglob("*"), fresh]:
            _sync(file)
        _put(fresh, folder)
        _sync(folder.parent)
    except OSError as error:
        shutil.rmtree(fresh, ignore_errors=True)
        raise TrainingError(f"{folder} cannot be written ({error.strerror}); make room there and start again") from None


def write_json(file: Path, value: Any) -> None:
    """Strict JSON, by way of a rename: infinities and NaN become null."""
    fresh = file.with_name(f".{file.name}.new")
    text = json.dumps(finite(value), indent=2, ensure_ascii=False, allow_nan=False)
    fresh.write_text(text + "\n", encoding="utf-8")
    _sync(fresh)
    os.replace(fresh, file)


def _put(fresh: Path, folder: Path) -> None:
    """Rename `fresh` to `folder`, which keeps being there all the while if it was."""
    if not folder.exists():
        os.replace(fresh, folder)
        return
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if _exchanged(fresh, folder):
        os.replace(fresh, old)
    else:  # a file system or system that cannot swap two names: absent for a moment
        os.replace(folder, old)
        os.replace(fresh, folder)
    shutil.rmtree(old, ignore_errors=True)


def _exchanged(one: Path, other: Path) -> bool:
    """Swap two names in one step, where the system can."""
    try:
        swap = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    return int(swap(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE)) == 0


def finite(value: Any) -> Any:
    """Plain values with null where JSON has no word for a float."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(v) for v in value]
    return value


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
