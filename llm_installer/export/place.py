"""Where what leaves is put: beside the model, or wherever --out says; under another name until it is complete."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from llm_installer.core.errors import DiskError, ModelError, UsageError
from llm_installer.core.files import changeable, unwritable
from llm_installer.core.paths import ModelDir, allow
from llm_installer.core.text import short_path, shortened
from llm_installer.export.target import lock_name
from llm_installer.install.disk import delete
from llm_installer.install.naming import wrong_with_name
from llm_installer.install.staging import directory_lock

OTHER_DISK = "name with --out"
"""What puts a result on another disk."""


def place(folder: ModelDir, out: str | None, name: str) -> Path:
    """The file or folder to be; `name` is what it is called where --out does not say, and its ending must be kept.

    Raises UsageError for a name that cannot be had, ModelError for one that is taken.
    """
    suffix = ".gguf" if name.endswith(".gguf") else ""
    target = Path(out).expanduser().absolute() if out else folder.root.absolute() / name
    if suffix and target.is_dir():
        target /= name
    kind = "file" if suffix else "folder"
    if wrong := wrong_with_name(target.name):
        raise UsageError(f"A {kind} cannot be called {target.name!r}: {wrong}; give another name with --out")
    if suffix and target.suffix != suffix:
        raise UsageError(f"{shortened(target.name, 60)} does not end with {suffix}; give such a name with --out")
    if os.path.lexists(target):
        raise ModelError(f"{short_path(target)} is there already; give another name with --out, or remove it")
    if not target.parent.is_dir():
        raise UsageError(f"There is no folder {short_path(target.parent)}; make it, or give another name with --out")
    if not changeable(target.parent):
        raise ModelError(f"{short_path(target.parent)} cannot be written to; {allow(target.parent)}")
    return target


def partial_of(target: Path) -> Path:
    """What a file or folder is called until it is complete and proven."""
    return target.with_name(f".{target.name}.part")


@contextmanager
def leaving(target: Path) -> Iterator[Path]:
    """Where `target` is made meanwhile; what an earlier try left there is deleted first, and after an error too.

    Raises InstallerError where another process makes the same, DiskError where the disk refuses.
    """
    part = partial_of(target)
    with directory_lock(lock_name(ModelDir(target)), "--out", f"making {short_path(target)}"):
        try:
            delete(part)
            yield part
            publish(part, target)
        finally:
            delete(part)


def publish(part: Path, target: Path) -> None:
    """Give what is proven its name, at which nothing may be. Raises DiskError."""
    try:
        if os.path.lexists(target):  # made by somebody else meanwhile
            raise ModelError(f"{short_path(target)} is there already; give another name with --out, or remove it")
        os.rename(part, target)
    except OSError as error:
        raise unwritable(target, error) from None


def keep_beside(target: Path, write: Callable[[Path], None]) -> Path:
    """Let the receipt of a file be written beside it. Raises DiskError; the file is deleted then, since without its
    proof it would look as if it had none."""
    paper = target.with_name(f"{target.name}.receipt.json")
    try:
        write(paper)
    except DiskError:
        delete(target)
        raise
    return paper


def empty_folder(part: Path) -> Path:
    """Make it. Raises DiskError."""
    try:
        part.mkdir(parents=True)
    except OSError as error:
        raise unwritable(part.parent, error) from None
    return part


def bytes_of(path: Path) -> int:
    """Of a file, or of all files in a folder."""
    return sum(p.stat().st_size for p in ([path] if path.is_file() else path.rglob("*")) if p.is_file())
