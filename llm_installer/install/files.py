"""Small acts on files: sizes in words, room on the disk, hashes, copies that survive a power cut."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from pathlib import Path

from llm_installer.core.errors import InstallerError

_CHUNK = 1 << 20
_SPARE = 16 << 20


def human(count: float) -> str:
    """Bytes in the unit that people use: 812 KB, 4.9 GB."""
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
        if count >= scale:
            value = count / scale
            return f"{value:.1f} {unit}" if value < 10 else f"{value:.0f} {unit}"
    return f"{count:.0f} bytes"


def need_room(folder: Path, wanted: int) -> None:
    """Raise InstallerError when `wanted` bytes and a twentieth to spare do not fit on the disk of `folder`."""
    free = shutil.disk_usage(folder).free
    if wanted + wanted // 20 + _SPARE > free:
        raise InstallerError(
            f"{human(wanted)} have to be stored in {folder} and its disk has {human(free)} free; "
            f"make room, or set LLM_HOME to a folder on a larger disk"
        )


def size_on_disk(folder: Path) -> int:
    """Bytes in all files below `folder`; links are not followed."""
    return sum(os.lstat(os.path.join(parent, name)).st_size for parent, _, names in os.walk(folder) for name in names)


def sha256_of(file: Path) -> str:
    """The sha256 of a file, as hub pages show it."""
    digest = hashlib.sha256()
    with file.open("rb") as data:
        while chunk := data.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def copy_hashed(source: Path, target: Path) -> str:
    """Copy the content of `source`, and return its sha256. Raises InstallerError in words."""
    digest = hashlib.sha256()
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with source.open("rb") as data, target.open("wb") as copy:
            while chunk := data.read(_CHUNK):
                digest.update(chunk)
                copy.write(chunk)
            settle(copy.fileno())
    except OSError as error:
        raise InstallerError(f"{source} could not be copied to {target.parent} ({error.strerror})") from error
    return digest.hexdigest()


def write_text(file: Path, text: str, mode: int = 0o644) -> None:
    """Write a small file by one rename, so that no reader finds half of it."""
    fresh = file.with_name(f".{file.name}.{os.getpid()}")
    with fresh.open("w", encoding="utf-8") as out:
        out.write(text)
        out.flush()
        settle(out.fileno())
    fresh.chmod(mode)
    os.replace(fresh, file)


def settle(descriptor: int) -> None:
    """Wait until written data is on the disk; a file system that cannot promise it is used as it is."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise


def discard(path: Path) -> None:
    """Delete a file, a link (never what it points to) or a whole folder; nothing there is fine too."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
