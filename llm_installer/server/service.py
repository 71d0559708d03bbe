"""The work behind the routes: each request read, prompted, asked and answered, and given up when its client leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from llm_installer.inference.engine.request import Counts
from llm_installer.server.asking import Asked, ask
from llm_installer.server.catalogue import Catalogue, Entry, Serves
from llm_installer.server.fields import Body
from llm_installer.server.guard import body_of
from llm_installer.server.preparing import Prepared, prepare_chat, prepare_completion, read_chat, read_completion
from llm_installer.server.problems import encoded, ended
from llm_installer.server.request import ServeRequest
from llm_installer.server.sending import EventStream, Gone, events, unless_gone, whole
from llm_installer.server.shapes import ChatShape, Shape, TextShape

Value = TypeVar("Value")
Read = Callable[[bytes], Body]
Prepare = Callable[[Body, Entry, ServeRequest, int], Prepared]


class EngineOfServer(Serves, Protocol):
    """What a server asks of the engine."""

    fault: str

    @property
    def alive(self) -> bool: ...
    def counts(self) -> Counts: ...
    def close(self) -> None: ...


class Service:
    """Answers requests with an engine."""

    def __init__(self, engine: EngineOfServer, catalogue: Catalogue, settings: ServeRequest) -> None:
        self.engine, self.catalogue, self.settings = engine, catalogue, settings
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
        self.engine.close()

    async def _answered(self, request: Request, read: Read, prepare: Prepare) -> Response:
        body = await body_of(request, self.settings.body_bytes)
        try:
            return await unless_gone(request.receive, self._answer(request, body, read, prepare))
        except Gone:
            return Response(status_code=499)

    async def _answer(self, request: Request, body: bytes, read: Read, prepare: Prepare) -> Response:
        self._refuse_when_ended()
        fields = await self._beside(lambda: read(body))
        entry = await asyncio.to_thread(self.catalogue.find, str(fields["model"]))
        prepared, asked = await self._ask(fields, entry, prepare)
        self._open.add(asked)
        if self._closed:  # it ended while the prompt was read
            asked.cancel()
        shape: Shape = TextShape(asked, prepared.echoed) if prepared.echoed else ChatShape(asked)
        if asked.wish.stream:
            stream = events(asked, shape, prepared.tooling, self.settings.heartbeat)
            abort = request.scope.get("abort") or (lambda: None)
            return EventStream(stream, lambda: self._give_up(asked), self.settings.patience, abort)
        try:
            return _json(await whole(asked, shape, prepared.tooling))
        finally:
            self._give_up(asked)

    def _give_up(self, asked: Asked) -> None:
        asked.cancel()
        self._open.discard(asked)

    async def _ask(self, fields: Body, entry: Entry, prepare: Prepare) -> tuple[Prepared, Asked]:
        positions = self.engine.positions
        prepared = await self._beside(lambda: prepare(fields, entry, self.settings, positions))
        requests = await self._beside(lambda: prepared.prompted.requests(positions))
        return prepared, ask(self.engine.submit, self.engine.counts, prepared.prompted, requests)

    async def _beside(self, work: Callable[[], Value]) -> Value:
        """Done by the thread that reads prompts."""
        return await asyncio.get_running_loop().run_in_executor(self._reader, work)

    def _refuse_when_ended(self) -> None:
        if self._closed:
            raise ended()
        if not self.engine.alive:
            raise ended(f"The engine has ended ({self.engine.fault or 'it was closed'}); restart the server")


def _json(value: object) -> Response:
    return Response(encoded(value), media_type="application/json")
