"""Bring one file from a hub: go on where the last try stopped, and keep it only if its checksum is right."""

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
from llm_installer.install.files import human, settle, sha256_of

WHOLE_ONLY = 50 * 10**9
"""Hubs serve no larger file over plain HTTP; their client fetches such a file in its own way."""

_SECONDS_BETWEEN_LINES = 5.0
_TRIES = 5


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
    """Raised inside a transfer when another one has failed."""


class Meter:
    """Counts the bytes of all transfers, tells the user every few seconds, and can stop them all."""

    def __init__(self, say: Callable[[str], None], total: int) -> None:
        self._say, self._total, self._done, self._fetched = say, total, 0, 0
        self._lock = threading.Lock()
        self._begun = self._told = time.monotonic()
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Make every transfer end at its next chunk or pause."""
        self._stopped.set()

    def pause(self, seconds: float) -> None:
        """Wait before another try."""
        if self._stopped.wait(seconds):
            raise Stopped

    def have(self, count: int) -> None:
        """Count bytes that are here already; a negative number takes some back."""
        with self._lock:
            self._done += count

    def fetched(self, count: int) -> None:
        """Count bytes that just came."""
        if self._stopped.is_set():
            raise Stopped
        with self._lock:
            self._done += count
            self._fetched += count
            now = time.monotonic()
            if now - self._told >= _SECONDS_BETWEEN_LINES:
                self._told = now
                self._say(self._line(now - self._begun))

    def _line(self, seconds: float) -> str:
        rate = max(self._fetched, 1) / seconds
        left = max(self._total - self._done, 0) / rate
        return f"{human(self._done)} of {human(self._total)}, {human(rate)}/s, about {left:.0f} s left"


def part_of(parts: Path, name: str) -> Path:
    """Where the first bytes of an unfinished file are kept."""
    return parts / f"{name.replace('/', '__')}.part"


def fetch(file: RemoteFile, folder: Path, parts: Path, meter: Meter) -> str:
    """Make `folder/name` what the hub has; returns its sha256. A part left by an interrupted try is continued."""
    final = folder / file.name
    if final.is_file():
        digest = sha256_of(final)
        if _is_right(file, final, digest):
            meter.have(final.stat().st_size)
            return digest
        final.unlink()
    part = part_of(parts, file.name)
    _bring(file, part, meter)
    digest = sha256_of(part)
    if not _is_right(file, part, digest):
        part.unlink()
        raise HubError(
            f"{file.name} of {file.repo} came with the wrong content (its size or checksum is not the hub's) and was "
            f"thrown away; type the same command again to fetch it anew"
        )
    final.parent.mkdir(parents=True, exist_ok=True)
    os.replace(part, final)
    return digest


def _bring(file: RemoteFile, part: Path, meter: Meter) -> None:
    """Fill `part`: from the hub client's own cache if it has the file, else over the network."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    cached = try_to_load_from_cache(file.repo, file.name, revision=file.commit)
    if isinstance(cached, str) and _is_right(file, Path(cached), sha256_of(Path(cached))):
        shutil.copyfile(cached, part)
        meter.have(part.stat().st_size)
    elif (file.size or 0) > WHOLE_ONLY:
        os.replace(hf_hub_download(file.repo, file.name, revision=file.commit, local_dir=part.parent), part)
    else:
        _stream(file, part, meter)


def _stream(file: RemoteFile, part: Path, meter: Meter) -> None:
    """Append to `part` what it lacks. The hub's client starts a file again in every process; this does not."""
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
    # Compressed answers have no ranges: without them an interrupted file would start again.
    headers = build_hf_headers(library_name="llm-installer") | {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    url = hf_hub_url(file.repo, file.name, revision=file.commit)
    with get_session().stream("GET", url, headers=headers, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT) as response:
        hf_raise_for_status(response)
        goes_on = response.status_code == HTTPStatus.PARTIAL_CONTENT
        meter.have(0 if goes_on else -have)
        with part.open("ab" if goes_on else "wb") as out:
            for chunk in response.iter_bytes():
                out.write(chunk)
                meter.fetched(len(chunk))
            out.flush()
            settle(out.fileno())


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
