"""Contents by their hash: blobs/ab/SHA256 of the data folder once complete, blobs/partial/SHA256 before.

A piece is written where it belongs, so that to send it twice, or by two senders at once, changes nothing; only what has
the hash that it is called by becomes complete.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from llm_installer.core.files import sync
from llm_installer.studio.store.refusals import Refused, Unknown

PIECE = 4 << 20
"""Bytes that are sent at once."""
_NAME = re.compile(r"[0-9a-f]{64}")


class WrongOffset(Refused):
    """A piece does not begin where what is there ends."""

    code = "wrong_offset"


class WrongHash(Refused):
    """What was sent is not what it is called."""

    status = 422
    code = "wrong_hash"


def place(folder: Path, sha256: str) -> Path:
    """Where a complete content is. Raises Unknown for what is no hash."""
    if not _NAME.fullmatch(sha256):
        raise Unknown(f"{sha256!r} is not a SHA-256")
    return folder / "blobs" / sha256[:2] / sha256


def partial(folder: Path, sha256: str) -> Path:
    """Where it is before."""
    return place(folder, sha256).parent.parent / "partial" / sha256


def received(folder: Path, sha256: str) -> tuple[int, bool]:
    """(bytes that are there, whether that is all)."""
    for file, complete in ((place(folder, sha256), True), (partial(folder, sha256), False)):
        if file.is_file():
            return file.stat().st_size, complete
    return 0, False


def asked(folder: Path, sha256: str) -> tuple[int, bool]:
    """The same for someone who is about to hand it in: a complete one is young again, and not swept away."""
    there, complete = received(folder, sha256)
    if complete:
        os.utime(place(folder, sha256))
    return there, complete


def write(folder: Path, sha256: str, offset: int, piece: bytes, total: int) -> tuple[int, bool]:
    """Take a piece of a content that has `total` bytes; returns as `received` does.

    Raises WrongOffset where bytes before it are missing, WrongHash where all are there and are not that content, which
    is then forgotten, and OSError where the disk is full.
    """
    there, complete = asked(folder, sha256)
    if complete:
        return there, True
    if offset > there or offset + len(piece) > total:
        raise WrongOffset(f"There are {there} bytes of {total}; a piece cannot begin at {offset}")
    file = partial(folder, sha256)
    file.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(file, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as out:
        out.seek(offset)
        out.write(piece)
        out.flush()
        there = os.fstat(out.fileno()).st_size
        if there < total:
            return there, False
        sync(out.fileno())
    _finish(file, place(folder, sha256), sha256)
    return there, True


def _finish(file: Path, target: Path, sha256: str) -> None:
    if file_hash(file) != sha256:
        file.unlink(missing_ok=True)
        raise WrongHash(f"What was sent does not have the hash {sha256}; send it again from the beginning")
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(file, target)


def file_hash(file: Path) -> str:
    """SHA-256 of a file."""
    digest = hashlib.sha256()
    with file.open("rb") as content:
        while piece := content.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
