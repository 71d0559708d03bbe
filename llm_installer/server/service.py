"""The work behind the routes: each request read, prompted, asked and answered, and given up when its client leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import Response

from llm_installer.server.asking import Asked, ask
from llm_installer.server.catalogue import Entry
from llm_installer.server.fields import Body
from llm_installer.server.guard import body_of
from llm_installer.server.hosts import Host, Hosts
from llm_installer.server.preparing import Prepared, prepare_chat, prepare_completion, read_chat, read_completion
from llm_installer.server.problems import encoded, ended
from llm_installer.server.request import ServeRequest
from llm_installer.server.sending import EventStream, Gone, events, unless_gone, whole
from llm_installer.server.shapes import ChatShape, Shape, TextShape

Value = TypeVar("Value")
Read = Callable[[bytes], Body]
Prepare = Callable[[Body, Entry, ServeRequest, int], Prepared]


class Service:
    """Answers requests with the engine of the model that each is for."""

    def __init__(self, hosts: Hosts, settings: ServeRequest) -> None:
        self.hosts, self.settings = hosts, settings
        # A tokenizer is told how to treat special tokens before each text, so that only one thread may use it.
        self._reader = ThreadPoolExecutor(1, "prompts")
        self._open: set[Asked] = set()
        self._closed = False

    async def chat(self, request: Request) -> Response:
        """/v1/chat/completions."""
        return await self._answered(request, read_chat, prepare_chat)

    async def completion(self, request: Request) -> Response:
        """/v1/completions."""
        return await self._answered(request, read_completion, prepare_completion)

    def end(self) -> None:
        """Give up everything that is being answered; from any thread."""
        self._closed = True
        for asked in list(self._open):
            asked.cancel()

    def close(self) -> None:
        """End the threads."""
        self._reader.shutdown()
        self.hosts.close()

    async def _answered(self, request: Request, read: Read, prepare: Prepare) -> Response:
        body = await body_of(request, self.settings.body_bytes)
        try:
            return await unless_gone(request.receive, self._answer(request, body, read, prepare))
        except Gone:
            return Response(status_code=499)

    async def _answer(self, request: Request, body: bytes, read: Read, prepare: Prepare) -> Response:
        if self._closed:
            raise ended()
        fields = await self._beside(lambda: read(body))
        host, entry = await asyncio.to_thread(self.hosts.find, str(fields["model"]))
        if not host.engine.alive:
            raise ended(f"The engine has ended ({host.engine.fault or 'it was closed'}); restart the server")
        prepared, asked = await self._ask(fields, host, entry, prepare)
        self._open.add(asked)
        if self._closed:  # it ended while the prompt was read
            asked.cancel()
        shape: Shape = TextShape(asked, prepared.echoed) if prepared.echoed else ChatShape(asked)
        if asked.wish.stream:
            stream = events(asked, shape, prepared.forms, self.settings.heartbeat)
            abort = request.scope.get("abort") or (lambda: None)
            return EventStream(stream, lambda: self._give_up(asked), self.settings.patience, abort)
        try:
            return _json(await whole(asked, shape, prepared.forms))
        finally:
            self._give_up(asked)

    def _give_up(self, asked: Asked) -> None:
        asked.cancel()
        self._open.discard(asked)

    async def _ask(self, fields: Body, host: Host, entry: Entry, prepare: Prepare) -> tuple[Prepared, Asked]:
        engine, positions = host.engine, host.engine.positions
        prepared = await self._beside(lambda: prepare(fields, entry, self.settings, positions))
        requests = await self._beside(lambda: prepared.prompted.requests(positions))
        return prepared, ask(engine.submit, engine.counts, prepared.prompted, requests)

    async def _beside(self, work: Callable[[], Value]) -> Value:
        """Done by the thread that reads prompts."""
        return await asyncio.get_running_loop().run_in_executor(self._reader, work)


def _json(value: object) -> Response:
    return Response(encoded(value), media_type="application/json")
