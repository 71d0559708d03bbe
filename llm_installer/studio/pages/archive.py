"""A folder as a zip, made while it is sent."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path


def zipped(folder: Path) -> Iterator[bytes]:
    """The files of a folder as a zip, piece by piece; links are left out."""
    out = _Pipe()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as packed:
        for file in sorted(folder.rglob("*")):
            inside = not file.is_symlink() and not any(one.is_symlink() for one in file.relative_to(folder).parents)
            if file.is_file() and inside:
                with (
                    file.open("rb") as read,
                    packed.open(str(file.relative_to(folder)), "w", force_zip64=True) as to_zip,
                ):
                    while piece := read.read(1 << 20):
                        to_zip.write(piece)
                        yield out.taken()
    yield out.taken()


class _Pipe(io.RawIOBase):
    """Keeps what is written until it is taken."""

    def __init__(self) -> None:
        self._kept = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        piece = bytes(memoryview(data))  # type: ignore[arg-type]
        self._kept += piece
        return len(piece)

    def taken(self) -> bytes:
        found, self._kept = bytes(self._kept), bytearray()
        return found
