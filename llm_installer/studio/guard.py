"""What stands before every request to a studio: by which name, from where, how much, and with what right.

With it go the headers that tell a browser what a page of this server may do.
"""

from __future__ import annotations

import re
import shutil
import socket
from collections.abc import MutableMapping
from ipaddress import ip_address
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llm_installer.server.guard import answered
from llm_installer.server.problems import Problem, too_large
from llm_installer.server.request import LOOPBACK
from llm_installer.studio.access.doors import FREE, SAFE, open_to_job, right_for
from llm_installer.studio.bodies import LONG, counted, in_time
from llm_installer.studio.store import tokens

if TYPE_CHECKING:
    from llm_installer.studio.context import Studio

CSP = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "font-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = (
    ("content-security-policy", CSP),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
)
PROXIED = ("x-forwarded-for", "x-forwarded-host", "forwarded", "via", "x-real-ip")
"""Headers by which a request shows that it came through a proxy, whatever host the proxy then names."""
OPEN = ("/health", "/api/workers/pair", "/api/workers/wheel")
"""Paths that anyone may ask for by the public address: nothing, what changes a pairing code for a token, and this
program itself."""
_UPLOAD = re.compile(r"/api/train|/v1/files|/new|(?:/api)?/jobs/[^/]+/result|/blobs/[^/]+")
"""Paths whose bodies go to the disk as they come, and may be long."""
JSON = 16 << 20
"""Bytes of every other body, which is read as a whole."""
SMALL = 64 << 10
"""Bytes of the body of somebody who need not be known."""


class Guard:
    """Checks host, origin, size and token of requests."""

    def __init__(self, app: ASGIApp, studio: Studio) -> None:
        self._app, self._studio = app, studio

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on what may pass; answer the rest."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        headers, path, method = Headers(scope=scope), str(scope["path"]), str(scope["method"])
        answer, most = _guarded(send), self._most(headers, path, method)
        problem = self._problem(headers, path, method) or self._too_much(headers, most)
        if not problem:
            try:
                return await self._app(scope, in_time(counted(receive, most)), answer)
            except Problem as error:  # of a body, where nobody before the application answers with it
                problem = error
        await answered(problem)(scope, receive, answer)

    def _problem(self, headers: Headers, path: str, method: str) -> Problem | None:
        host = headers.get("host", "").lower()
        public = self._studio.settings.public_host
        if _name(host) not in LOOPBACK and (not public or host != public) and not self._own(_name(host)):
            return Problem(421, f"This server does not answer to the name {host!r}", code="unknown_host")
        if problem := foreign(headers, method):
            return problem
        if self._studio.settings.people:
            return None  # the gate asks who it is (access/gate.py)
        outside = host == public or any(name in headers for name in PROXIED)
        return None if not outside or path in OPEN else self._without_right(headers, path)

    def _own(self, name: str) -> bool:
        """Whether a name is one of this machine, where others may reach it: an address in numbers is nobody's name."""
        settings, own = self._studio.settings, socket.gethostname().lower()
        return settings.people and (_is_number(name) or name in (settings.host, own, f"{own}.local"))

    def _without_right(self, headers: Headers, path: str) -> Problem | None:
        """Why someone from outside may not: all they may is report on the job whose token they have."""
        kind, _, secret = headers.get("authorization", "").partition(" ")
        with self._studio.store.reading() as session:
            job = tokens.job_of(self._studio.store, session, secret.strip()) if kind.lower() == "bearer" else None
        if job is None:
            words = "From outside, only who has the token of a job may use this server, as: Authorization: Bearer TOKEN"
            return Problem(401, words, code="invalid_token", headers={"WWW-Authenticate": "Bearer"})
        if open_to_job(path, job):
            return None
        return Problem(403, "This token is for another job, or for less than that", code="out_of_scope")

    def _most(self, headers: Headers, path: str, method: str) -> int:
        """Bytes that a body may have: everything but uploads is read as a whole."""
        if right_for(method, path) == FREE:
            return SMALL
        kind = headers.get("content-type", "")
        whole = "json" in kind or "urlencoded" in kind or not _UPLOAD.fullmatch(path)
        return JSON if whole else self._studio.settings.upload_bytes

    def _too_much(self, headers: Headers, most: int) -> Problem | None:
        given = headers.get("content-length") or "0"
        if not (given.isascii() and given.isdigit()):
            return Problem(400, "Content-Length must be a number", code="invalid_request")
        if int(given) > most:
            return too_large(most)
        free = shutil.disk_usage(self._studio.folder).free
        if int(given) > LONG and free - int(given) < self._studio.settings.kept_back:
            return Problem(
                507, "The disk of this server is full; delete files or jobs, and send it again", "server_error"
            )
        return None


def foreign(headers: Headers, method: str) -> Problem | None:
    """Why a request that a page from elsewhere made is refused. Programs that are no browsers send neither header."""
    origin, site = headers.get("origin"), headers.get("sec-fetch-site")
    own = origin is not None and origin.lower().partition("://")[2] == headers.get("host", "").lower()
    crossed = site is not None and site not in ("same-origin", "none") and method not in SAFE
    if (origin is not None and not own) or crossed:
        return Problem(403, "Web pages from elsewhere may not use this server", code="forbidden_origin")
    return None


def job_of_token(studio: Studio, authorization: str) -> str | None:
    """The id of the job whose token an Authorization header holds; None where it holds none."""
    with studio.store.reading() as session:
        return tokens.job_of(studio.store, session, authorization.partition(" ")[2].strip())


def _guarded(send: Send) -> Send:
    """What adds the headers to an answer that does not have them."""

    async def answer(message: Message) -> None:
        if message["type"] == "http.response.start":
            _add(message)
        await send(message)

    return answer


def _add(message: MutableMapping[str, object]) -> None:
    present = message.get("headers") or []
    assert isinstance(present, list)
    names = {name.lower() for name, _ in present}
    added = [(name.encode(), value.encode()) for name, value in HEADERS if name.encode() not in names]
    message["headers"] = [*present, *added]


def _name(host: str) -> str:
    """The name in a Host header, without its port."""
    name = host.partition("]")[0].removeprefix("[") if host.startswith("[") else host.partition(":")[0]
    return name.removesuffix(".")


def _is_number(name: str) -> bool:
    try:
        return bool(ip_address(name))
    except ValueError:
        return False
