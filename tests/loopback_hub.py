"""A model hub on the loopback, with the answers that the real client asks for; uploads are in hub_uploads.py."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.hub_uploads import Uploads, answer_upload, is_large


@dataclass
class Seen:
    """A request that the hub got, and how many bytes of body it sent."""

    method: str
    path: str
    range: str
    authorization: str
    sent: int = 0


@dataclass
class Repo:
    """A repository; `hurt` changes what is sent from what is listed."""

    files: dict[str, bytes]
    commit: str = "a" * 40
    branches: tuple[str, ...] = ("main",)
    sizes: dict[str, int] = field(default_factory=dict)
    hurt: dict[str, bytes] = field(default_factory=dict)
    refuse: tuple[int, str] | None = None
    """Status and X-Error-Code for every file."""
    private: bool = False


@dataclass
class Hub:
    """What the server has, what it does wrong on purpose, and what it was asked."""

    url: str = ""
    other: str = ""
    """The same content under another origin."""
    repos: dict[str, Repo] = field(default_factory=dict)
    log: list[Seen] = field(default_factory=list)
    refuse: tuple[int, str, str] | None = None
    """Status, X-Error-Code and X-Error-Message for the listing."""
    break_after: int | None = None
    """Bytes after which the connection is cut; from then on weights are answered with 503."""
    break_once: int | None = None
    """Bytes after which the connection is cut once."""
    hang_after: int | None = None
    """Bytes after which nothing more comes until `released`."""
    hanging: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)
    ranges: bool = True
    uploads: Uploads = field(default_factory=Uploads)
    redirect: bool = False
    """Send those who want weights to the other origin, as a hub sends them to its storage."""

    def got(self, name: str) -> list[Seen]:
        """The requests for one file that got content."""
        return [s for s in self.log if s.path.endswith("/" + name) and s.sent]


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            return

        def do_GET(self) -> None:
            path = self.path.split("?")[0]
            seen = Seen("GET", path, self.headers.get("Range", ""), self.headers.get("Authorization", ""))
            hub.log.append(seen)
            if path.startswith("/api/models/"):
                self._listing(path.removeprefix("/api/models/"))
            elif path == "/api/whoami-v2":
                self._answer(200, {}, json.dumps({"type": "user", "name": "anna"}).encode())
            elif "/resolve/" in path:
                self._file(path, seen)
            else:
                self._answer(404, {}, b"")

        def do_POST(self) -> None:
            self._upload("POST")

        def do_PUT(self) -> None:
            self._upload("PUT")

        def _upload(self, method: str) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            hub.log.append(Seen(method, self.path, "", self.headers.get("Authorization", "")))
            found = answer_upload(hub, method, self.path, body)
            if found is None:  # cut off without an answer
                self.close_connection = True
                self.connection.close()
            else:
                self._answer(*found)

        def do_HEAD(self) -> None:
            name, _, rest = self.path.lstrip("/").partition("/resolve/")
            hub.log.append(Seen("HEAD", self.path, "", ""))
            repo, data = hub.repos[name], hub.repos[name].files[rest.partition("/")[2]]
            tag = hashlib.sha256(data).hexdigest()
            self._answer(200, {"X-Repo-Commit": repo.commit, "ETag": f'"{tag}"', "X-Linked-Size": str(len(data))}, b"")

        def _listing(self, path: str) -> None:
            name, _, revision = path.partition("/revision/")
            repo = hub.repos.get(name)
            if hub.refuse is not None:
                status, code, message = hub.refuse
                self._answer(status, {"X-Error-Code": code, "X-Error-Message": message}, b"{}")
            elif repo is None:
                self._answer(401, {"X-Error-Code": "RepoNotFound"}, b"{}")
            elif revision and revision not in (*repo.branches, repo.commit):
                self._answer(404, {"X-Error-Code": "RevisionNotFound"}, b"{}")
            else:
                siblings = [_sibling(repo, n, c) for n, c in repo.files.items()]
                about = {"id": name, "sha": repo.commit, "private": repo.private, "siblings": siblings}
                self._answer(200, {}, json.dumps(about).encode())

        def _file(self, path: str, seen: Seen) -> None:
            name, _, rest = path.lstrip("/").partition("/resolve/")
            repo, file = hub.repos[name], rest.partition("/")[2]
            if repo.refuse is not None:
                self._answer(repo.refuse[0], {"X-Error-Code": repo.refuse[1]}, b"{}")
            elif hub.break_after == 0 and file.endswith(".safetensors"):
                self._answer(503, {}, b"")
            elif hub.redirect and file.endswith(".safetensors") and self.headers["Host"] in hub.url:
                self._answer(302, {"Location": hub.other + self.path}, b"")
            else:
                self._body(repo.hurt.get(file, repo.files[file]), seen, cut=file.endswith(".safetensors"))

        def _body(self, body: bytes, seen: Seen, cut: bool) -> None:
            first, _, last = seen.range.removeprefix("bytes=").partition("-") if hub.ranges else ("", "", "")
            start, end = int(first or 0), min(len(body), int(last or len(body)) + 1)
            self.send_response(206 if start or last else 200)
            if start or last:
                self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(body)}")
            self.send_header("Content-Length", str(end - start))
            self.end_headers()
            once, hub.break_once = (hub.break_once, None) if cut else (None, hub.break_once)
            stop = (once or hub.break_after or hub.hang_after) if cut else None
            piece = body[start : end if stop is None else min(end, stop)]
            self.wfile.write(piece)
            seen.sent = len(piece)
            self.close_connection = cut
            if cut and hub.break_after:
                hub.break_after = 0
            elif cut and hub.hang_after:
                hub.hanging.set()
                hub.released.wait(30)

        def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(body)

    return Handler


def _sibling(repo: Repo, name: str, data: bytes) -> dict[str, Any]:
    size = repo.sizes.get(name, len(data))
    found: dict[str, Any] = {"rfilename": name, "size": size}
    if is_large(name):
        return found | {"lfs": {"size": size, "sha256": hashlib.sha256(data).hexdigest(), "pointerSize": 130}}
    return found | {"blobId": hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()}


def _serve(hub: Hub, host: str) -> ThreadingHTTPServer:
    server = ThreadingHTTPServer((host, 0), _handler(hub))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    return server


@contextmanager
def served_hub() -> Iterator[Hub]:
    """A hub, under two origins, for as long as this lasts."""
    served = Hub()
    servers = [_serve(served, "127.0.0.1"), _serve(served, "127.0.0.2")]
    served.url = f"http://127.0.0.1:{servers[0].server_port}"
    served.other = f"http://127.0.0.2:{servers[1].server_port}"
    try:
        yield served
    finally:
        served.released.set()
        for server in servers:
            server.shutdown()
            server.server_close()
