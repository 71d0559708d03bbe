"""Files and folders that are complete or absent, never half written."""

from __future__ import annotations

import ctypes
import errno
import json
import math
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Any

from llm_installer.core.errors import DiskError
from llm_installer.core.manifest import write_manifest
from llm_installer.core.text import short_path, visible

_EXCHANGE = 2
_HERE = -100
"""RENAME_EXCHANGE and AT_FDCWD of renameat2(2)."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_folder(folder: Path, fill: Callable[[Path], None]) -> None:
    """Replace `folder`: fill a temporary sibling, add a manifest, sync it to the disk, then rename it into place.

    Raises DiskError when the disk is full or not writable; what was there before is then untouched.
    """
    temporary = folder.with_name(f".{folder.name}.new")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        fill(temporary)
        write_manifest(temporary)
        for file in [*temporary.rglob("*"), temporary]:
            _sync_path(file)
        _replace(temporary, folder)
        _sync_path(folder.parent)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise unwritable(folder, error) from None


def unwritable(path: Path, error: OSError) -> DiskError:
    """The error for a file or folder that could not be written."""
    if isinstance(error, DiskError):
        return error
    mend = "free some space there" if error.errno in FULL else "check that you may write there"
    return DiskError(
        f"{short_path(path)} cannot be written ({error.strerror or error}); {mend} and start again", error.errno
    )


def write_text(file: Path, text: str, mode: int = 0o644) -> None:
    """Replace a small file by one rename, so that no reader finds half of it. Raises DiskError."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8") as out:
            temporary.chmod(mode)  # before there is anything to read
            out.write(text)
            out.flush()
            sync(out.fileno())
        os.replace(temporary, file)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise unwritable(file, error) from None


def append_line(file: Path, line: bytes) -> int:
    """Add a line, its end included, to a file, which is made where there is none. Returns how many lines it has now.

    Half a line that a crash or an editor left at the end is closed first. Raises DiskError where it cannot be written;
    the file is then as it was.
    """
    try:
        with file.open("a+b", buffering=0) as out:
            return _append(out, line)
    except OSError as error:
        raise unwritable(file, error) from None


def _append(file: FileIO, line: bytes) -> int:
    file.seek(0)
    lines, last = 0, b"\n"
    while piece := file.read(1 << 20):
        lines, last = lines + piece.count(b"\n"), piece[-1:]
    half, end = last != b"\n", file.tell()
    added = b"\n" + line if half else line
    try:
        if file.write(added) != len(added):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(file.fileno())
    except OSError:
        file.truncate(end)
        raise
    return lines + 1 + half


def write_json(file: Path, value: object, mode: int = 0o644) -> None:
    """Replace a file by strict JSON, in which infinities and NaN become null. Raises DiskError."""
    text = json.dumps(finite(value), indent=2, ensure_ascii=False, allow_nan=False)
    write_text(file, visible(text, lines=True) + "\n", mode)  # the same value: the escapes are those of JSON


def finite(value: Any) -> Any:
    """Plain values with null where JSON has no word for a float."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(v) for v in value]
    return value


def changeable(folder: Path) -> bool:
    """Whether files can be listed, made and deleted in `folder` by whoever runs this."""
    return os.access(folder, os.R_OK | os.W_OK | os.X_OK)


def switch_link(link: Path, target: Path) -> None:
    """Point `link` at `target` by one rename, so that no reader ever finds it missing. Relative, to survive a move."""
    link.parent.mkdir(parents=True, exist_ok=True)
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(os.path.relpath(os.path.realpath(target), os.path.realpath(link.parent)))
    os.replace(temporary, link)


def sync(descriptor: int) -> None:
    """Wait until written data is on the disk; a file system that cannot promise it is used as it is. Raises OSError."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise


def _sync_path(path: Path) -> None:
    if os.name == "nt":  # there a folder cannot be opened, nor a file synced that is open for reading
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)


def _replace(temporary: Path, folder: Path) -> None:
    """Rename `temporary` to `folder`, which is there all the while if it was before."""
    if not folder.exists():
        os.replace(temporary, folder)
        return
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if _exchanged(temporary, folder):
        os.replace(temporary, old)
    else:  # a file system or system that cannot swap two names: absent for a moment
        os.replace(folder, old)
        os.replace(temporary, folder)
    shutil.rmtree(old, ignore_errors=True)


def _exchanged(one: Path, other: Path) -> bool:
    """Swap two names in one step, where the system can."""
    try:
        swap = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError, TypeError):  # TypeError: Windows has no library without a name
        return False
    return int(swap(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE)) == 0
