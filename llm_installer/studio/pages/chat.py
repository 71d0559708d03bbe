"""The chat page of `serve` under the address of the studio, with a server on loopback for each model talked to.

The studio is a door to that server. What the page says and how it looks is its own code.
"""

from __future__ import annotations

import http.client
import secrets
from collections.abc import AsyncIterator
from contextlib import closing, suppress
from urllib.parse import quote, urlsplit

import httpx2
from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from llm_installer.core.errors import UsageError
from llm_installer.core.home import models_dir
from llm_installer.core.paths import ModelDir
from llm_installer.runs.listing import list_runs
from llm_installer.studio.access import visible
from llm_installer.studio.context import Studio
from llm_installer.studio.pages import children
from llm_installer.studio.pages.children import Child
from llm_installer.studio.pages.drawing import PageRoute, drawn, to
from llm_installer.studio.pages.models import installed_names
from llm_installer.studio.store.refusals import Unknown

METHODS = ["GET", "HEAD", "POST", "DELETE"]
_PASSED_ON = ("accept", "content-type", "last-event-id")
_PASSED_BACK = ("content-type", "content-security-policy", "x-content-type-options", "referrer-policy", "cache-control",
                "cross-origin-opener-policy", "retry-after")  # fmt: skip


def router_of(studio: Studio) -> APIRouter:
    """The routes of this page."""
    router = APIRouter(route_class=PageRoute, include_in_schema=False)
    servers = Servers(studio)

    @router.get("/chat")
    def chat(starting: str = "") -> Response:
        return drawn("chat.html", here="Chat", models=servers.listed(), starting=starting)

    @router.post("/chat/{name}/start")
    def start(name: str) -> Response:
        servers.start(name)
        return to(f"/chat?starting={quote(name)}")

    @router.post("/chat/{name}/stop")
    def stop(name: str) -> Response:
        if child := servers.child(name):
            child.end()
        return to("/chat")

    @router.get("/chat/{name}/ready")
    def ready(name: str) -> Response:
        child = servers.child(name)
        problem = (
            "" if child and child.alive else (child.lines[-1:] or ["It ended."])[0] if child else "It was stopped."
        )
        is_there = bool(servers.address(name))
        answer = drawn("ready.html", name=name, ready=is_there, problem=problem)
        if is_there:
            answer.headers["HX-Redirect"] = f"/chat/{quote(name)}/"
        return answer

    @router.get("/chat/{name}")
    def enter(name: str) -> Response:
        if servers.address(name):
            return to(f"/chat/{quote(name)}/")
        servers.start(name)
        return to(f"/chat?starting={quote(name)}")

    @router.api_route("/chat/{name}/{path:path}", methods=METHODS)
    async def door(request: Request, name: str, path: str) -> Response:
        address = servers.address(name)
        if not address:
            return to(f"/chat?starting={quote(name)}") if not path else Response("It is not loaded.", 503)
        await visible.refuse_chat(studio, name, path, request)
        return await visible.own_models(studio, name, path, await _passed(request, address, path))

    return router


class Servers:
    """The servers that were started from here. Their files say what they are, so a restart loses none."""

    def __init__(self, studio: Studio) -> None:
        self._folder, self._empty = studio.folder / children.CHATS, studio.folder / "empty"

    def listed(self) -> list[dict[str, object]]:
        """Every model that could be talked to."""
        return [
            {"name": name, "address": self.address(name), "runs": len(list_runs(ModelDir(models_dir() / name)))}
            for name in installed_names()
        ]

    def child(self, name: str) -> Child | None:
        """The server of a model, where one was started."""
        return next((one for one in children.known(self._folder) if one.name == name), None)

    def start(self, name: str) -> None:
        """Start one, unless it runs. Raises UsageError for a model that is not installed."""
        if name not in installed_names():
            raise UsageError(f"The model {name!r} is not installed")
        found = self.child(name)
        if not (found and found.alive):
            self._empty.mkdir(parents=True, exist_ok=True)
            place = self._folder / (found.place.name if found else secrets.token_hex(6))
            children.begin(name, place, ["serve", str(models_dir() / name), "--port", "0"], self._empty)

    def address(self, name: str) -> str:
        """Where a server answers; empty while none does."""
        child = self.child(name)
        if not child or not child.alive:
            return ""
        words = " ".join(child.lines).split()
        found = next((word for word in words if word.startswith("http://127.0.0.1:")), "")
        return found if found and _answers(found) else ""


def _answers(address: str) -> bool:
    place = urlsplit(address)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=5)
    with closing(connection), suppress(OSError):
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    return False


async def _passed(request: Request, address: str, path: str) -> Response:
    """What the server behind the door answers, as it comes."""
    url = httpx2.URL(f"{address}/{quote(path)}{f'?{request.url.query}' if request.url.query else ''}")
    if url.raw_path.partition(b"?")[0] != f"/{quote(path)}".encode():
        raise Unknown("There is no such page here")  # "." and ".." lead past what was looked at
    client = httpx2.AsyncClient(timeout=httpx2.Timeout(30, read=None))
    headers = {name: value for name, value in request.headers.items() if name in _PASSED_ON}
    asked = client.build_request(request.method, url, headers=headers, content=await request.body())
    try:
        answer = await client.send(asked, stream=True)
    except httpx2.HTTPError:
        await client.aclose()
        return Response("The model does not answer.", 502)

    async def body() -> AsyncIterator[bytes]:
        try:
            async for piece in answer.aiter_bytes():
                yield piece
        finally:
            await answer.aclose()
            await client.aclose()

    kept = {name: value for name, value in answer.headers.items() if name in _PASSED_BACK}
    return StreamingResponse(body(), answer.status_code, headers=kept)
