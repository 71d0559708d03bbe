"""A result file opened with care: only files that belong there, no larger than they may be, and all as they were sent.

Nothing of a name in it becomes a path: each is looked up in the table of what may be there.
"""

from __future__ import annotations

import errno
import json
import re
import shutil
import stat
import struct
import zipfile
import zlib
from collections import Counter
from pathlib import Path

from llm_installer.core.files import unwritable
from llm_installer.core.manifest import MANIFEST, sha256_of
from llm_installer.core.text import counted, shortened, size
from llm_installer.studio.colab.bundle import FILES, MIB, Manifest
from llm_installer.studio.results import NotAccepted

LARGEST = sum(row.most for row in FILES.values()) + MIB
"""Bytes of a result file."""
KEPT_BACK = 200 * MIB
"""Bytes of the disk that no upload may use."""
_DIRECTORY = 64 << 10
"""Bytes of the list of files in a zip; ours has one."""
_END = struct.Struct("<4s4H2LH")
_UNREADABLE = (zipfile.BadZipFile, zlib.error, EOFError, struct.error, ValueError, NotImplementedError, RuntimeError)
_HASH = re.compile(r"[0-9a-f]{64}")


def unpack(bundle: Path, into: Path) -> tuple[Manifest, dict[str, Path]]:
    """Write the files of a result file to the empty folder `into`; (what it says of itself, each file by its place).

    Raises NotAccepted where anything of it is not as it should be, DiskError.
    """
    try:
        _refuse_long_lists(bundle)
        with zipfile.ZipFile(bundle) as archive:
            entries = _entries(archive)
            if shutil.disk_usage(into).free < sum(entry.file_size for entry in entries) + KEPT_BACK:
                raise NotAccepted("The disk has no room for this result; free some space and drop the file again")
            files = {entry.filename: _written(archive, entry, into) for entry in entries}
    except (*_UNREADABLE, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # a place before the file, in a damaged zip
            raise unwritable(into, error) from None
        raise NotAccepted(f"The result file is damaged ({shortened(str(error), 100)}); copy it again") from None
    manifest = _manifest(files.pop(MANIFEST))
    if wrong := sorted(set(manifest.files) ^ set(files)):
        raise NotAccepted(f"The result file and its {MANIFEST} do not agree about {shortened(wrong[0], 60)}")
    for name, file in files.items():
        if sha256_of(file) != manifest.files[name]:
            raise NotAccepted(f"{name} of the result is not what its {MANIFEST} says; copy the file again")
    return manifest, files


def _refuse_long_lists(bundle: Path) -> None:
    """Read the end of the zip before anybody reads the list of its files, which may have millions of lines."""
    total = bundle.stat().st_size
    if total > LARGEST:
        raise NotAccepted(f"A result file has at most {size(LARGEST)}, and this one {size(total)}")
    with bundle.open("rb") as file:
        file.seek(max(0, total - _END.size - 20))
        tail = file.read()
    end = tail[-_END.size :]
    if len(end) < _END.size or not end.startswith(b"PK\5\6"):
        raise NotAccepted("This is not a result file of a training: drop the .zip that the notebook saved")
    _, _, _, here, count, length, _, _ = _END.unpack(end)
    if b"PK\6\7" in tail or count != here or count > len(FILES) + 1 or length > _DIRECTORY:
        raise NotAccepted(f"A result file holds at most {counted(len(FILES) + 1, 'file')}, and this one holds more")


def _entries(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """Its files. Raises NotAccepted for a name, a kind or a size that may not be, and for what is missing."""
    entries = archive.infolist()
    names = Counter(entry.filename for entry in entries)
    for entry in entries:
        shown = shortened(entry.filename, 60)
        row = FILES.get(entry.filename)
        if row is None and entry.filename != MANIFEST:
            raise NotAccepted(f"A result file has no {shown!r}; it holds the adapter and what tells of its training")
        if names[entry.filename] > 1:
            raise NotAccepted(f"{shown} is in the result file twice")
        if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG) or entry.flag_bits & 1:
            raise NotAccepted(f"{shown} of the result is a link or encrypted, and must be a plain file")
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise NotAccepted(f"{shown} of the result is compressed in a way that this program does not read")
        if entry.file_size > (most := row.most if row else MIB):
            raise NotAccepted(
                f"{shown} of the result has {size(entry.file_size)}, and at most {size(most)} are allowed"
            )
    needed = [MANIFEST, *(name for name, row in FILES.items() if row.required)]
    if missing := next((name for name in needed if name not in names), None):
        raise NotAccepted(f"{missing} is missing from the result file")
    return entries


def _written(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, into: Path) -> Path:
    """No more than the size that it declares is ever read."""
    file = into / entry.filename
    file.parent.mkdir(exist_ok=True)
    with archive.open(entry) as source, file.open("xb") as out:
        shutil.copyfileobj(source, out, MIB)
    if file.stat().st_size != entry.file_size:
        raise NotAccepted(f"{entry.filename} of the result is shorter than the file says; copy it again")
    return file


def _manifest(file: Path) -> Manifest:
    try:
        found = json.loads(file.read_bytes())
        made = Manifest(**found)
    except (ValueError, TypeError, RecursionError):
        raise NotAccepted(f"{MANIFEST} of the result cannot be read") from None
    texts = (made.job, made.version, made.base)
    hashes = made.files.values() if isinstance(made.files, dict) else [None]
    if not all(isinstance(text, str) for text in texts) or not all(
        isinstance(each, str) and _HASH.fullmatch(each) for each in hashes
    ):
        raise NotAccepted(f"{MANIFEST} of the result does not say what it must")
    return made
