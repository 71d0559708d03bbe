"""Free space, sizes, copies with their hash, and deletion: what an install does to the disk."""

from __future__ import annotations

import hashlib
import os
import shutil
from itertools import chain
from pathlib import Path

from llm_installer.core.errors import InstallerError
from llm_installer.core.files import changeable, sync
from llm_installer.core.text import short_path, size

_CHUNK = 1 << 20
_SPARE = 16 << 20


def require_space(folder: Path, wanted: int, instead: str = "set LLM_HOME to") -> None:
    """Raise InstallerError when `wanted` bytes and a twentieth to spare do not fit on the disk of `folder`; `instead`
    is what chooses another one."""
    free = shutil.disk_usage(folder).free
    spare = size(wanted // 20 + _SPARE)
    if wanted + wanted // 20 + _SPARE > free:
        raise InstallerError(
            f"The model needs {size(wanted)} in {short_path(folder)}, and {spare} to spare; its disk has {size(free)} "
            f"free, so free some space, or {instead} a folder on a larger disk"
        )


def size_on_disk(folder: Path) -> int:
    """Bytes in all files below `folder`; links are not followed."""
    return sum(os.lstat(os.path.join(parent, name)).st_size for parent, _, names in os.walk(folder) for name in names)


def closed_folder(root: Path) -> Path | None:
    """The first folder that keeps `root` from being deleted with all that is in it; None when nothing does."""
    if not changeable(root.parent):
        return root.parent
    below = (Path(parent, name) for parent, names, _ in os.walk(root) for name in names)
    return next((p for p in chain([root], below) if not p.is_symlink() and not changeable(p)), None)


def nearest_existing(path: Path) -> Path:
    """`path` itself, or the nearest of its parents that exists."""
    return next(p for p in (path, *path.parents) if p.exists())


def copy_hashed(source: Path, target: Path) -> str:
    """Copy the content of `source`, and return its sha256. Raises InstallerError where the disk refuses."""
    digest = hashlib.sha256()
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with source.open("rb") as data, target.open("wb") as copy:
            while chunk := data.read(_CHUNK):
                digest.update(chunk)
                copy.write(chunk)
            copy.flush()
            sync(copy.fileno())
    except OSError as error:
        raise InstallerError(
            f"{short_path(source)} could not be copied to {short_path(target.parent)} ({error.strerror})"
        ) from error
    return digest.hexdigest()


def delete(path: Path) -> None:
    """Delete a file, a link (never what it points to) or a whole folder; nothing there is fine too."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
