"""The bytes of a source, decompressed from gz or zip; whatever can go wrong is one clear error."""

from __future__ import annotations

import gzip
import os
import shlex
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from functools import lru_cache
from itertools import pairwise
from lzma import LZMAError
from pathlib import Path
from struct import error as StructError
from typing import IO

from llm_installer.core.errors import DataError
from llm_installer.data.reading.rows import Source

_BLOCK = 1 << 18
_ENCRYPTED = 0x1
_ADVICE: tuple[tuple[type[Exception], str], ...] = (
    (PermissionError, "cannot be read (permission denied); allow it with: chmod u+rX {quoted}"),
    (FileNotFoundError, "no longer exists; check whether it was moved or deleted"),
    (IsADirectoryError, "is a directory, not a file; name the files in it"),
    (gzip.BadGzipFile, "is not a complete gzip file despite its name; copy it again, or remove .gz from its name"),
    (EOFError, "is truncated: its compressed data ends too early; copy or download it again"),
    (zlib.error, "is damaged and cannot be decompressed; copy or download it again"),
    (zipfile.BadZipFile, "is a damaged zip file, or not a zip file; copy or download it again"),
    (LZMAError, "is damaged and cannot be decompressed; copy or download it again"),
    (NotImplementedError, "is compressed in a way that Python cannot read; unpack it yourself and give the folder"),
    (OSError, "cannot be read ({error}); copy it to another disk"),
    (ValueError, "is a damaged zip file, or not a zip file; copy or download it again"),
    (StructError, "is a damaged zip file, or not a zip file; copy or download it again"),
    (RuntimeError, "needs a password; unpack it yourself with: unzip {quoted}"),
)
_BROKEN = tuple(kind for kind, _ in _ADVICE)
_BOMB_BYTES = 1 << 28
_BOMB_SHARE = 200
"""Data that decompresses to more than both, in bytes and as a multiple of the file, is meant to fill up a machine."""


def byte_blocks(source: Source) -> Iterator[bytes]:
    """The content of a source, decompressed, in blocks of at most 256 KiB. Raises DataError."""
    try:
        with ExitStack() as stack:
            stream = _opened(source, stack)
            size = 0
            limit = max(_BOMB_BYTES, _BOMB_SHARE * source.path.stat().st_size) if is_compressed(source) else None
            while block := stream.read(_BLOCK):
                size += len(block)
                if limit is not None and size > limit:
                    raise DataError(
                        f"{source.name} unpacks to more than {_BOMB_SHARE} times its size, which real data never does; "
                        f"unpack it yourself if you trust it"
                    )
                yield block
    except _BROKEN as error:
        raise broken(source.name, error) from None


def zip_members(path: Path, name: str) -> list[str]:
    """The names of the files in a zip, sorted. Raises DataError, also for a zip that needs a password."""
    try:
        with zipfile.ZipFile(path) as archive:
            infos = [info for info in archive.infolist() if not info.filename.endswith("/")]
    except _BROKEN as error:
        raise broken(name, error) from None
    if any(info.flag_bits & _ENCRYPTED for info in infos):
        raise DataError(f"{name} needs a password; unpack it yourself with: unzip {shlex.quote(name)}")
    names = sorted(info.filename for info in infos)
    if "" in names:
        raise DataError(f"{name} contains a file without a name; unpack it yourself and give the folder")
    if twice := next((first for first, second in pairwise(names) if first == second), ""):
        raise DataError(f"{name} contains two files named {twice}; unpack it yourself and give the folder")
    return names


def is_compressed(source: Source) -> bool:
    """Whether the content of a source is not simply that of a file on disk."""
    return bool(source.member) or source.path.suffix.lower() == ".gz"


def broken(name: str, error: Exception) -> DataError:
    """The error for a file, shown as `name`, that cannot be opened or decompressed."""
    advice = next(text for kind, text in _ADVICE if isinstance(error, kind))
    reason = getattr(error, "strerror", None) or error
    return DataError(f"{name} " + advice.format(quoted=shlex.quote(name), error=reason))


@lru_cache(maxsize=2)
def _archive(path: Path, version: tuple[int, int, int], process: int) -> zipfile.ZipFile:
    """An open zip, its list of members read once: to read it again for each member takes quadratic time.

    It is another one for each `version` of the file and, as it has a position in it, for each process.
    """
    return zipfile.ZipFile(path)


def _opened(source: Source, stack: ExitStack) -> IO[bytes] | gzip.GzipFile:
    stream: IO[bytes] = stack.enter_context(source.path.open("rb"))
    if source.member:
        found = os.fstat(stream.fileno())
        archive = _archive(source.path, (found.st_ino, found.st_size, found.st_mtime_ns), os.getpid())
        stream = stack.enter_context(archive.open(source.member))
    if (source.member or source.path.name).lower().endswith(".gz"):
        return stack.enter_context(gzip.GzipFile(fileobj=stream))
    return stream
