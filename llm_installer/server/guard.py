"""What stands before every request: who may ask, from where, and how much; nothing of it reads a model."""

from __future__ import annotations

import hmac
from collections.abc import Collection, Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from llm_installer.server.problems import Problem, encoded, no_key, too_large
from llm_installer.server.request import LOOPBACK, ServeRequest

FREE = ("/health",)
"""What needs no key where there is one, besides the files of the page."""
_THROWN_AWAY = 3
"""Of a body that is too long so many times the limit is read before the connection is closed."""


class Guard:
    """Checks the address, the origin and the key of requests."""

    def __init__(self, app: ASGIApp, request: ServeRequest, free: Collection[str] = ()) -> None:
        """`free` are paths that need no key, besides FREE."""
        self._app, self._key = app, request.api_key.encode()
        self._free = frozenset([*FREE, *free])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on what may pass; answer the rest."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        # Closing the connection of a client that does not read is not part of ASGI: uvicorn's `send` knows it.
        scope["abort"] = getattr(getattr(getattr(send, "__self__", None), "transport", None), "abort", None)
        problem = self._problem(Headers(scope=scope), str(scope["path"]))
        await (answered(problem) if problem else self._app)(scope, receive, send)

    def _problem(self, headers: Headers, path: str) -> Problem | None:
        if not self._key:
            return foreign(headers)
        if path not in self._free and not self._knows_key(headers.get("authorization", "")):
            return no_key()
        return None

    def _knows_key(self, given: str) -> bool:
        kind, _, key = given.partition(" ")
        sent = key.strip().encode("latin-1", "replace")
        return hmac.compare_digest(sent, self._key) and kind.lower() == "bearer"


def foreign(headers: Headers) -> Problem | None:
    """Why a request to a server without a key is refused: a web page that gave its own name the address of this
    machine (DNS rebinding), or that sends requests here from elsewhere (CSRF)."""
    host = headers.get("host", "")
    if _name(host) not in LOOPBACK:
        words = "This server answers to localhost and 127.0.0.1 alone; start it with --api-key to call it otherwise"
        return Problem(403, words, code="forbidden_host")
    origin = headers.get("origin")
    if origin is not None and _netloc(origin) != host.lower():
        return Problem(403, "Web pages from elsewhere may not use this server", code="forbidden_origin")
    return None


def _netloc(origin: str) -> str:
    """Host and port of an origin; empty where it has none."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _name(host: str) -> str:
    """The name in a Host header, without its port."""
    name = host.lower().partition("]")[0].removeprefix("[") if host.startswith("[") else host.lower().partition(":")[0]
    return name.removesuffix(".")


def answered(problem: Problem) -> Response:
    """A problem as a response."""
    headers: Mapping[str, str] = {**problem.headers}
    return Response(encoded(problem.body()), problem.status, headers=dict(headers), media_type="application/json")


async def body_of(request: Request, most: int) -> bytes:
    """The body of a request. Raises Problem for one that is longer than `most` bytes; what comes of such a one is
    thrown away, since a client that is still sending does not read why it is refused."""
    found, count = bytearray(), 0
    async for some in request.stream():
        count += len(some)
        if count <= most:
            found += some
        elif count > _THROWN_AWAY * most:
            break
    if count > most:
        raise too_large(most)
    return bytes(found)
