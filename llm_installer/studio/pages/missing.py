"""A page for people at an address that is none, where programs get JSON; and HEAD, which is answered like GET."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llm_installer.studio.pages.drawing import back, drawn

PROGRAMS = ("/api/", "/v1/", "/blobs/", "/health", "/openapi.json", "/static/")
"""How addresses begin that programs ask for."""
_OWN_HEAD = ("/blobs/", "/chat/")
"""Those with an answer to HEAD of their own."""


def for_people(request: Request) -> bool:
    """Whether an answer is looked at by a person: in a browser, and not under an address of programs."""
    return "text/html" in request.headers.get("accept", "") and not request.url.path.startswith(PROGRAMS)


def problem_page(request: Request, status: int, sentence: str) -> Response:
    """A page that says what is wrong."""
    title = "Not found" if status == 404 else "That did not work"
    answer = drawn("problem.html", title=title, sentence=sentence, back=back(request))
    answer.status_code = status
    return answer


class Heads:
    """Answers HEAD with what GET would say, without its body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on everything else as it is."""
        if scope["type"] != "http" or scope["method"] != "HEAD" or str(scope["path"]).startswith(_OWN_HEAD):
            return await self._app(scope, receive, send)
        begun = asyncio.Event()
        told = False

        async def nothing_more() -> Message:
            nonlocal told
            if told:
                await begun.wait()
                return {"type": "http.disconnect"}
            told = True
            return {"type": "http.request", "body": b"", "more_body": False}

        async def head_alone(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                await send(message)
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                begun.set()

        await self._app({**scope, "method": "GET"}, nothing_more, head_alone)
