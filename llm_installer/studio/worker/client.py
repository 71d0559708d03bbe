"""The protocol of workers, from the worker's side, and how long to wait before asking a studio that is away again."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from email.message import Message
from pathlib import Path
from typing import TYPE_CHECKING

from llm_installer.core.errors import InstallerError
from llm_installer.studio.blobs import PIECE

if TYPE_CHECKING:
    import httpx2

Json = dict[str, object]
TIMEOUT = 30.0


class Away(InstallerError):
    """The server cannot be reached, or cannot answer now; it may later."""


class Replaced(InstallerError):
    """Another attempt has the job, or nobody: this worker is to stop."""


class Refusal(InstallerError):
    """The server answered, and will answer the same again."""


class Server:
    """A studio, as a worker calls it."""

    def __init__(self, address: str, token: str = "") -> None:
        import httpx2

        headers = {"authorization": f"Bearer {token}"} if token else {}
        self.address = address.rstrip("/")
        self._client = httpx2.Client(
            base_url=self.address, headers=headers, timeout=TIMEOUT, trust_env="127.0.0.1" not in address
        )

    def close(self) -> None:
        """Close its connections."""
        self._client.close()

    def hello(self, worker: str, alone: bool) -> Json:
        """Say that a worker begins. Raises Away and Refusal, as the other calls do."""
        return self._post("/api/workers/hello", {"worker": worker, "alone": alone})

    def claim(self, worker: str, engines: tuple[str, ...], job_id: str = "") -> Json | None:
        """Take a job; None where there is none."""
        asked = {"worker": worker, "engines": list(engines), "job_id": job_id}
        return self._post("/api/workers/claim", asked) or None

    def tell(self, job_id: str, what: str, given: Mapping[str, object]) -> Json:
        """report, checkpoint, complete, fail or give-back. Raises Replaced too."""
        return self._post(f"/api/workers/jobs/{job_id}/{what}", given)

    def fetch(self, job_id: str, place: Path, validation: bool = False) -> str:
        """Write what a job learns from to a file; returns the name that it was uploaded by."""
        return self._fetched(f"/api/workers/jobs/{job_id}/data", place, {"validation": str(validation).lower()})

    def fetch_checkpoint(self, job_id: str, path: str, place: Path) -> None:
        """Write a file of the checkpoint that the studio has of a job."""
        self._fetched(f"/api/workers/jobs/{job_id}/checkpoint/{path}", place, {})

    def offset(self, sha256: str) -> tuple[int, bool]:
        """(bytes of a content that the server has, whether that is all)."""
        with _reached():
            return _offset(_checked(self._client.head(f"/blobs/{sha256}")))

    def put(self, sha256: str, offset: int, piece: bytes, total: int) -> tuple[int, bool]:
        """Send a piece of a content; returns as `offset` does."""
        params: dict[str, str | int] = {"offset": offset, "total": total}
        with _reached():
            return _offset(_checked(self._client.put(f"/blobs/{sha256}", params=params, content=piece)))

    def _fetched(self, path: str, place: Path, params: Mapping[str, str]) -> str:
        with _reached(), self._client.stream("GET", path, params=dict(params)) as answer, place.open("wb") as out:
            if answer.status_code != 200:
                answer.read()
            _checked(answer)
            for piece in answer.iter_bytes(1 << 20):
                out.write(piece)
            said = Message()
            said["content-disposition"] = answer.headers.get("content-disposition", "")
            return said.get_filename("")

    def _post(self, path: str, given: Mapping[str, object]) -> Json:
        content = json.dumps(given, ensure_ascii=False).encode("utf-8", "replace")  # names of files may be no UTF-8
        with _reached():
            answer = _checked(self._client.post(path, content=content, headers={"content-type": "application/json"}))
        found = answer.json() if answer.content else {}
        assert isinstance(found, dict)
        return found


def pieces(file: Path, start: int) -> Iterator[tuple[int, bytes]]:
    """(offset, piece) of a file from a byte on; one empty piece where there is nothing, so that it is sent at all."""
    with file.open("rb") as content:
        content.seek(start)
        while piece := content.read(PIECE):
            yield start, piece
            start += len(piece)
        if not start:
            yield 0, b""


@contextmanager
def _reached() -> Iterator[None]:
    import httpx2

    try:
        yield
    except httpx2.HTTPError as error:
        raise Away(f"The studio cannot be reached ({type(error).__name__})") from None


def _checked(answer: httpx2.Response) -> httpx2.Response:
    if answer.status_code < 300:
        return answer
    said = _said(answer)
    if answer.status_code >= 500 or answer.status_code in (408, 429):
        raise Away(said)
    if answer.status_code == 409 and _code(answer) == "stale_attempt":
        raise Replaced(said)
    raise Refusal(said)


def _error(answer: httpx2.Response) -> Mapping[str, object]:
    try:
        found = answer.json()["error"]
    except (ValueError, KeyError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def _code(answer: httpx2.Response) -> str:
    return str(_error(answer).get("code", ""))


def _said(answer: httpx2.Response) -> str:
    return str(_error(answer).get("message") or f"The studio answered with status {answer.status_code}")


def _offset(answer: httpx2.Response) -> tuple[int, bool]:
    return int(answer.headers.get("upload-offset", "0")), answer.headers.get("upload-complete") == "?1"


class Patience:
    """How long to wait before the next try: longer each time, up to `most` seconds."""

    def __init__(self, most: float = 15.0) -> None:
        self._most, self._next, self._until = most, 0.5, 0.0

    @property
    def over(self) -> bool:
        """Whether it is time to try."""
        return time.monotonic() >= self._until

    def failed(self) -> float:
        """It failed; the seconds until the next try, not the same for all workers."""
        wait = self._next * (0.75 + 0.5 * (time.time_ns() % 1000) / 1000)
        self._next = min(self._most, self._next * 2)
        self._until = time.monotonic() + wait
        return wait

    def met(self) -> None:
        """It worked."""
        self._next, self._until = 0.5, 0.0
