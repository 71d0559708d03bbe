"""The bytes of a source, out of whatever gz or zip they are packed in; broken packing is one clear error."""

from __future__ import annotations

import gzip
import shlex
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
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
    (FileNotFoundError, "is gone; look whether it was moved or deleted"),
    (IsADirectoryError, "is a directory, not a file; name the files in it"),
    (gzip.BadGzipFile, "is not a whole gzip file in spite of its name; copy it again, or take .gz off its name"),
    (EOFError, "is cut off: its packed data end too early; copy or download it again"),
    (zlib.error, "is damaged: its packed data cannot be unpacked; copy or download it again"),
    (zipfile.BadZipFile, "is a damaged zip file, or none; copy or download it again"),
    (LZMAError, "is damaged: its packed data cannot be unpacked; copy or download it again"),
    (NotImplementedError, "is packed in a way that Python cannot unpack; unpack it by hand and give the folder"),
    (OSError, "cannot be read ({error}); copy it to another disk"),
    (ValueError, "is a damaged zip file, or none; copy or download it again"),
    (StructError, "is a damaged zip file, or none; copy or download it again"),
    (RuntimeError, "asks for a password; unpack it by hand with: unzip {quoted}"),
)
_BROKEN = tuple(kind for kind, _ in _ADVICE)
_BOMB_BYTES = 1 << 28
_BOMB_SHARE = 200
"""Unpacked data larger than both, in bytes and as a multiple of the file, are made to fill up a machine."""


def byte_blocks(source: Source) -> Iterator[bytes]:
    """What the source holds, unpacked, in blocks."""
    try:
        with ExitStack() as stack:
            stream = _opened(source, stack)
            size = 0
            limit = max(_BOMB_BYTES, _BOMB_SHARE * source.path.stat().st_size) if is_packed(source) else None
            while block := stream.read(_BLOCK):
                size += len(block)
                if limit is not None and size > limit:
                    raise DataError(
                        f"{source.name} unpacks to more than {_BOMB_SHARE} times its size, as no real data do; "
                        f"unpack it by hand if you trust it"
                    )
                yield block
    except _BROKEN as error:
        raise broken(source.name, error) from None


def zip_members(path: Path, name: str) -> list[str]:
    """The files in a zip, sorted; a zip that wants a password is refused."""
    try:
        with zipfile.ZipFile(path) as archive:
            infos = [info for info in archive.infolist() if not info.is_dir()]
    except _BROKEN as error:
        raise broken(name, error) from None
    if any(info.flag_bits & _ENCRYPTED for info in infos):
        raise DataError(f"{name} asks for a password; unpack it by hand with: unzip {shlex.quote(name)}")
    names = sorted(info.filename for info in infos)
    if twice := next((first for first, second in pairwise(names) if first == second), ""):
        raise DataError(f"{name} holds two files of the name {twice}; unpack it by hand and give the folder")
    return names


def is_packed(source: Source) -> bool:
    """Whether the bytes of the source are not simply those of a file on disk."""
    return bool(source.member) or source.path.suffix.lower() == ".gz"


def broken(name: str, error: Exception) -> DataError:
    """What to tell the user when `name` cannot be opened or unpacked."""
    advice = next(text for kind, text in _ADVICE if isinstance(error, kind))
    reason = getattr(error, "strerror", None) or error
    return DataError(f"{name} " + advice.format(quoted=shlex.quote(name), error=reason))


def _opened(source: Source, stack: ExitStack) -> IO[bytes] | gzip.GzipFile:
    stream: IO[bytes] = stack.enter_context(source.path.open("rb"))
    if source.member:
        archive = stack.enter_context(zipfile.ZipFile(stream))
        stream = stack.enter_context(archive.open(source.member))
    if (source.member or source.path.name).lower().endswith(".gz"):
        return stack.enter_context(gzip.GzipFile(fileobj=stream))
    return stream
