"""Download one file from a hub: resume what is partial, retry what breaks, keep only what has the right checksum."""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from llm_installer.core.errors import HubError
from llm_installer.core.files import sync
from llm_installer.core.manifest import sha256_of
from llm_installer.core.text import size

TOO_LARGE_FOR_HTTP = 50 * 10**9
"""Bytes. Hubs serve no larger file over plain HTTP; their client downloads such a file in its own way."""

_SECONDS_BETWEEN_LINES = 5.0
_TRIES = 5
"""In a row without a single new byte."""


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository at one commit."""

    repo: str
    commit: str
    name: str
    size: int | None
    sha256: str
    """Empty for a small file that is stored in git itself."""
    blob_id: str


class Stopped(Exception):
    """Raised inside a download when another one has failed."""


class Meter:
    """Counts the bytes of all downloads, tells the user every few seconds, and can stop them all."""

    def __init__(self, say: Callable[[str], None], total: int) -> None:
        self._say, self._total, self._done, self._downloaded = say, total, 0, 0
        self._lock = threading.Lock()
        self._begun = self._told = time.monotonic()
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Make every download end at its next chunk or pause."""
        self._stopped.set()

    def pause(self, seconds: float) -> None:
        """Wait before another try. Raises Stopped."""
        if self._stopped.wait(seconds):
            raise Stopped

    def have(self, count: int) -> None:
        """Count bytes that are here already; a negative number takes some back."""
        with self._lock:
            self._done += count

    def downloaded(self, count: int) -> None:
        """Count bytes that just came. Raises Stopped."""
        if self._stopped.is_set():
            raise Stopped
        with self._lock:
            self._done += count
            self._downloaded += count
            now = time.monotonic()
            if now - self._told >= _SECONDS_BETWEEN_LINES:
                self._told = now
                self._say(self._line(now - self._begun))

    def _line(self, seconds: float) -> str:
        speed = max(self._downloaded, 1) / seconds
        left = max(self._total - self._done, 0) / speed
        return f"{size(self._done)} of {size(self._total)}, {size(speed)}/s, about {left:.0f} s left"


def partial_file(folder: Path, name: str) -> Path:
    """Where the first bytes of an unfinished file are kept."""
    return folder / f"{name.replace('/', '__')}.part"


def download(file: RemoteFile, folder: Path, partial: Path, meter: Meter) -> str:
    """Make `folder/name` what the hub has, and return its sha256. Resumes what an interrupted try left in `partial`.

    Raises HubError where size or checksum is wrong, Stopped, and what the hub's client or httpx2 raise.
    """
    final = folder / file.name
    if final.is_file():
        digest = sha256_of(final)
        if _is_right(file, final, digest):
            meter.have(final.stat().st_size)
            return digest
        final.unlink()
    part = partial_file(partial, file.name)
    _fill(file, part, meter)
    digest = sha256_of(part)
    if not _is_right(file, part, digest):
        part.unlink()
        raise HubError(
            f"{file.name} of {file.repo} arrived damaged (its size or checksum is not the hub's) and was deleted; "
            f"run the same command again to download it again"
        )
    final.parent.mkdir(parents=True, exist_ok=True)
    os.replace(part, final)
    return digest


def _fill(file: RemoteFile, part: Path, meter: Meter) -> None:
    """Fill `part`: from the hub client's own cache if it has the file, else over the network."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    cached = try_to_load_from_cache(file.repo, file.name, revision=file.commit)
    if isinstance(cached, str) and _is_right(file, Path(cached), sha256_of(Path(cached))):
        shutil.copyfile(cached, part)
        meter.have(part.stat().st_size)
    elif (file.size or 0) > TOO_LARGE_FOR_HTTP:
        os.replace(hf_hub_download(file.repo, file.name, revision=file.commit, local_dir=part.parent), part)
    else:
        _download_with_retries(file, part, meter)


def _download_with_retries(file: RemoteFile, part: Path, meter: Meter) -> None:
    """Append to `part` what it lacks. The hub's client starts a file over in every process; this does not."""
    from httpx2 import NetworkError, RemoteProtocolError, TimeoutException

    if not part.is_file() or file.size is None or _size(part) > file.size:
        part.write_bytes(b"")
    have, failures = _size(part), 0
    meter.have(have)
    while file.size is None or _size(part) < file.size:
        try:
            _request(file, part, meter)
            return
        except (NetworkError, RemoteProtocolError, TimeoutException):
            before, have = have, _size(part)
            failures = 1 if have > before else failures + 1
            if failures == _TRIES:
                raise
            meter.pause(failures)


def _request(file: RemoteFile, part: Path, meter: Meter) -> None:
    """One request for the rest of the file; a hub that answers with all of it is taken at its word."""
    from huggingface_hub import constants, get_session, hf_hub_url
    from huggingface_hub.utils import build_hf_headers, hf_raise_for_status  # type: ignore[attr-defined]

    have = _size(part)
    # Compressed answers have no ranges: without them an interrupted file would start over.
    headers = build_hf_headers(library_name="llm-installer") | {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    url = hf_hub_url(file.repo, file.name, revision=file.commit)
    with get_session().stream("GET", url, headers=headers, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT) as response:
        hf_raise_for_status(response)
        resumes = response.status_code == HTTPStatus.PARTIAL_CONTENT
        meter.have(0 if resumes else -have)
        with part.open("ab" if resumes else "wb") as out:
            for chunk in response.iter_bytes():
                out.write(chunk)
                meter.downloaded(len(chunk))
            out.flush()
            sync(out.fileno())


def _size(path: Path) -> int:
    return path.stat().st_size


def _is_right(file: RemoteFile, path: Path, sha256: str) -> bool:
    if file.size is not None and path.stat().st_size != file.size:
        return False
    if file.sha256:
        return sha256 == file.sha256
    return not file.blob_id or _git_blob_id(path) == file.blob_id


def _git_blob_id(path: Path) -> str:
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
