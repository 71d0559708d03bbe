"""Before every request where there are accounts: who asks, whether they may, and that it is written down."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llm_installer.server.guard import answered
from llm_installer.server.problems import Problem
from llm_installer.studio.access import audit, doors, entry, forms
from llm_installer.studio.access.who import WHO, Who
from llm_installer.studio.bodies import in_time
from llm_installer.studio.pages.drawing import drawn
from llm_installer.studio.pages.missing import PROGRAMS
from llm_installer.studio.store.acting import ACTING

if TYPE_CHECKING:
    from llm_installer.studio.context import Studio

AGAIN = 5.0
"""Seconds after which an open stream asks whether its reader may still read."""
SOON = 20.0
"""Seconds in which the body of somebody who is not known has to come."""

Begins = Callable[[int], Awaitable[None]]


class SignedOut(OSError):
    """Whoever reads a stream may not read it any more."""


class Gate:
    """Lets in who may."""

    def __init__(self, app: ASGIApp, studio: Studio) -> None:
        self._app, self._studio = app, studio

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on what may pass; answer the rest."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        headers = Headers(scope=scope)
        who = await run_in_threadpool(entry.who_asks, self._studio, headers)
        scope["address"] = entry.address_of(self._studio, scope, headers)
        watched = _Watched(self._studio, who, headers, send, lambda status: self._written(scope, who, status))
        inner, refused = await self._decided(scope, headers, who, receive)
        of_who, of_acting = WHO.set(who), ACTING.set(who.acting if who else None)
        try:
            await (refused or self._app)(scope, inner or receive, watched.send)
        except SignedOut:
            return
        finally:
            WHO.reset(of_who)
            ACTING.reset(of_acting)

    async def _decided(
        self, scope: Scope, headers: Headers, who: Who | None, receive: Receive
    ) -> tuple[Receive | None, Response | None]:
        """(what is left of the request, nothing) for who may; (nothing, the refusal) for who may not."""
        method, path = str(scope["method"]), str(scope["path"])
        right = doors.right_for(method, path)
        if right == doors.FREE and (who is None or not who.form_token or method in doors.SAFE):
            return in_time(receive, SOON, math.inf), None
        if who is None:
            return None, _unknown(scope, headers)
        if who.job:
            return (receive, None) if doors.open_to_job(path, who.job) else (None, _refused(path, _OTHER_JOB))
        if right != doors.FREE and not who.may(right):
            return None, _refused(path, f"{_whose(who)} does not allow this; ask an administrator")
        if not who.form_token or method in doors.SAFE:
            _without_secret(scope)
            return receive, None
        inner = await forms.opened(who.form_token, headers, receive)
        return (inner, None) if inner else (None, _refused(path, _STALE_FORM))

    async def _written(self, scope: Scope, who: Who | None, status: int) -> None:
        method, path = str(scope["method"]), str(scope["path"])
        state = scope.get("state") or {}
        name = str(state.get("who") or (who.name if who else ""))
        if (
            status in audit.LATER
            or not name
            or (who and who.job)
            or (status < 400 and (method in doors.SAFE or audit.QUIET.match(path)))
        ):
            return
        if method in doors.SAFE and status not in (401, 403):
            return
        route = getattr(scope.get("route"), "path", "")
        what = audit.act(method, route) if route else audit.act(method, path.partition("?")[0][:60])
        about = audit.about(scope.get("path_params") or {}, str(state.get("about", "")))
        row = audit.Entry(name, who.how if who else "", what, about, str(scope["address"]), status)
        await run_in_threadpool(audit.write, self._studio.store, row)


_OTHER_JOB = "This token is for another job, or for less than that"
_STALE_FORM = "This form is not from this session; open the page again, and send it from there"


class _Watched:
    """What is answered: that it is written down, and whether a stream may go on."""

    def __init__(self, studio: Studio, who: Who | None, headers: Headers, send: Send, begins: Begins) -> None:
        self._studio, self._who, self._headers, self._send, self._begins = studio, who, headers, send, begins
        self._next, self._stream = 0.0, False

    async def send(self, message: Message) -> None:
        """Send it, unless its reader has signed out meanwhile."""
        if message["type"] == "http.response.start":
            await self._begins(int(message["status"]))  # it is written down before anyone is told
            self._stream = b"text/event-stream" in dict(message.get("headers") or ()).get(b"content-type", b"")
            self._next = time.monotonic() + AGAIN
        elif self._stream and self._who and time.monotonic() >= self._next:
            self._next = time.monotonic() + AGAIN
            if not await run_in_threadpool(entry.still_there, self._studio, self._who, self._headers):
                await self._send({"type": "http.response.body", "body": b"", "more_body": False})
                raise SignedOut
        await self._send(message)


def _whose(who: Who) -> str:
    return f"A key for {who.scope!r}" if who.scope else f"The role {who.role}"


def _without_secret(scope: Scope) -> None:
    """What comes behind the gate has no use for a key."""
    scope["headers"] = [(name, value) for name, value in scope["headers"] if name != b"authorization"]


def _unknown(scope: Scope, headers: Headers) -> Response:
    path = str(scope["path"])
    if headers.get("authorization") is not None or _of_a_program(path) or scope["method"] not in doors.SAFE:
        words = "This key is not known here, was revoked, or is over" if "authorization" in headers else _NO_KEY
        return answered(Problem(401, words, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"}))
    if "hx-request" in headers:
        return Response("", 401, headers={"HX-Redirect": "/sign-in"})
    query = str(scope.get("query_string", b""), "latin-1")
    wanted = f"{path}?{query}" if query else path
    return RedirectResponse("/sign-in" if path == "/" else f"/sign-in?next={quote(wanted, safe='/')}", 303)


_NO_KEY = "This studio wants to know who asks: sign in, or send a key as: Authorization: Bearer KEY"


def _refused(path: str, sentence: str) -> Response:
    if _of_a_program(path):
        return answered(Problem(403, f"{sentence}", code="forbidden"))
    answer = drawn("problem.html", title="Not allowed", sentence=f"{sentence}.", back="/models")
    answer.status_code = 403
    return answer


def _of_a_program(path: str) -> bool:
    return path.startswith(PROGRAMS)
