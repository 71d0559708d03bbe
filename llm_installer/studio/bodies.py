"""The bodies of requests as they come: how long each may be, how slow, and how many long ones at once."""

from __future__ import annotations

import asyncio
import time

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llm_installer.server.problems import Problem, too_large
from llm_installer.studio.access.doors import SAFE

UPLOADS = 2
"""Long bodies that are taken at once."""
LONG = 1 << 20
"""Bytes above which a body is long."""
SILENT, SLOWEST = 30.0, 8 << 10
"""Seconds that a body may bring nothing, and bytes that it has to bring each second once so many have passed."""


class Slots:
    """Takes a few long bodies at once, and lets the others come again. Who sends one is known by then."""

    def __init__(self, app: ASGIApp) -> None:
        self._app, self._taken = app, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand it on. Raises Problem for a long body that is one too many."""
        if scope["type"] != "http" or scope["method"] in SAFE:
            return await self._app(scope, receive, send)
        read, mine = int(Headers(scope=scope).get("content-length") or 0), 0
        unsaid = not read

        def taken() -> int:
            if self._taken >= UPLOADS:
                raise _busy()
            self._taken += 1
            return 1

        async def seen() -> Message:
            """A body that does not say how long it is turns out to be long."""
            nonlocal read, mine
            message = await receive()
            read += len(message.get("body", b"")) if unsaid else 0
            mine = mine or (taken() if read > LONG else 0)
            return message

        try:
            mine = taken() if read > LONG else 0
            await self._app(scope, seen, send)
        finally:
            self._taken -= mine


def counted(receive: Receive, most: int) -> Receive:
    """What refuses to read more than that many bytes, for bodies that do not say how long they are."""
    read = 0

    async def counted() -> Message:
        nonlocal read
        message = await receive()
        read += len(message.get("body", b""))
        if read > most:
            raise too_large(most)
        return message

    return counted


def in_time(receive: Receive, silent: float = SILENT, slowest: float = SLOWEST) -> Receive:
    """What refuses a body that brings nothing for so many seconds, or fewer bytes a second once they have passed."""
    began, read, more = 0.0, 0, True

    async def in_time() -> Message:
        nonlocal began, read, more
        if not more:  # all of it has come, and only the end of the connection is waited for
            return await receive()
        now = time.monotonic()
        began = began or now
        try:
            left = min(silent, began + silent + read / slowest - now)
            message = await asyncio.wait_for(receive(), max(0.0, left))
        except (asyncio.TimeoutError, TimeoutError):
            raise Problem(408, "This request took too long to come", headers={"Connection": "close"}) from None
        read, more = read + len(message.get("body", b"")), bool(message.get("more_body"))
        return message

    return in_time


def _busy() -> Problem:
    words = "As many files are being received as may; try again in a few seconds"
    return Problem(503, words, "server_error", code="busy", headers={"Retry-After": "3"})
