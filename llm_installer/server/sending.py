"""What a client hears: one JSON object, or a stream of server-sent events; and how it is seen that nobody listens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping, Sequence
from typing import TypeVar

from starlette.responses import Response

from llm_installer.inference.engine.request import Done, Event, Piece, Token
from llm_installer.server.answers import Answer, Forms, Said
from llm_installer.server.asking import Asked
from llm_installer.server.problems import Problem, encoded, ended, fault
from llm_installer.server.shapes import Json, Shape

Message = MutableMapping[str, object]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Value = TypeVar("Value")
HEARTBEAT = b": still here\n\n"
HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


class Gone(Exception):
    """The client does not listen any more."""


class Slow(Exception):
    """The client has read nothing for too long."""


class Answers:
    """All answers of a request, as its mail makes them grow."""

    def __init__(self, asked: Asked, forms: Forms) -> None:
        self._asked, self._forms, self._marks = asked, forms, forms.marks
        n = asked.wish.n
        self.all = [Answer(i // n, i, forms) for i in range(asked.answers)]
        self._stops = frozenset(asked.entry.voice.encoder.stop_ids)
        self._special = asked.entry.voice.special

    @property
    def open(self) -> bool:
        """Some have not ended."""
        return any(answer.reason is None for answer in self.all)

    def take(self, prompt: int, event: Event) -> tuple[Answer, Said, tuple[Token, ...]]:
        """The answer that an event is about, and what of it may be shown now. Raises Problem for one that failed."""
        answer = self.all[prompt * self._asked.wish.n + event.index]
        if isinstance(event, Done):
            if event.reason == "error":
                raise fault(f"The engine could not answer: {event.fault}")
            if event.reason == "cancelled":
                raise ended()
            return answer, answer.end(event.reason, event.tokens), ()
        tokens = tuple(token for token in event.tokens if token.id not in self._stops)
        answer.tokens += tokens if self._asked.wish.logprobs is not None else ()
        return answer, answer.add(self._plain(event)), tokens

    def _plain(self, piece: Piece) -> str:
        """The text of a piece; special tokens are in it where they may mark something, and only those stay."""
        if not self._forms.special:
            return piece.text
        return self._special.sub(lambda found: found[0] if found[0] in self._marks else "", piece.text)


async def whole(asked: Asked, shape: Shape, forms: Forms) -> Json:
    """All answers, when they have ended. Raises Problem."""
    answers = Answers(asked, forms)
    while answers.open:
        for prompt, event in await asked.news():
            answers.take(prompt, event)
    return shape.whole(answers.all)


async def events(asked: Asked, shape: Shape, forms: Forms, heartbeat: float) -> AsyncIterator[bytes]:
    """The events of a stream; an error after its beginning is one, too."""
    answers = Answers(asked, forms)
    try:
        yield _event(shape, [choice for answer in answers.all for choice in shape.first(answer.index)])
        while answers.open:
            mail = await asked.news(heartbeat)
            yield b"".join(_told(answers, shape, asked, mail)) if mail else HEARTBEAT
        if asked.wish.usage:
            yield _data(encoded(shape.usage(answers.all)))
        yield _data(b"[DONE]")
    except Problem as problem:
        yield _data(encoded(problem.body()))


def _told(answers: Answers, shape: Shape, asked: Asked, mail: Sequence[tuple[int, Event]]) -> Iterator[bytes]:
    for prompt, event in mail:
        answer, said, tokens = answers.take(prompt, event)
        if any(said) or (tokens and asked.wish.logprobs is not None):
            yield _event(shape, [shape.piece(answer.index, said, tokens)])
        if isinstance(event, Done):
            for choice in shape.last(answer):
                yield _event(shape, [choice])


def _event(shape: Shape, choices: Sequence[Json]) -> bytes:
    """An event for each choice: some clients look at the first of an event only."""
    return b"".join(_data(encoded(shape.chunk([choice]))) for choice in choices)


def _data(body: bytes) -> bytes:
    return b"data: " + body + b"\n\n"


async def unless_gone(receive: Receive, work: Awaitable[Value]) -> Value:
    """What `work` comes to; it is cancelled, and Gone raised, when the client closes its connection before."""
    wanted, gone = asyncio.ensure_future(work), asyncio.ensure_future(_closed(receive))
    try:
        await asyncio.wait({wanted, gone}, return_when=asyncio.FIRST_COMPLETED)
        if wanted.done():
            return wanted.result()
        raise Gone
    finally:
        wanted.cancel()
        gone.cancel()
        await asyncio.gather(wanted, gone, return_exceptions=True)


async def _closed(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class EventStream(Response):
    """A stream that ends when its client leaves, or reads nothing for too long."""

    media_type = "text/event-stream"

    def __init__(
        self, body: AsyncIterator[bytes], done: Callable[[], None], patience: float, abort: Callable[[], None]
    ) -> None:
        """`done` is called at its end, whatever that is; `patience` is in seconds; `abort` closes the connection of a
        client that reads nothing."""
        super().__init__(headers=HEADERS)
        del self.headers["content-length"]
        self._body, self._done, self._patience, self._abort = body, done, patience, abort

    async def __call__(self, scope: object, receive: Receive, send: Send) -> None:
        """Send it; whatever ends it frees what the engine does for it."""
        try:
            await unless_gone(receive, self._send(send))
        except Gone:
            pass
        except Slow:
            self._abort()
        finally:
            self._done()

    async def _send(self, send: Send) -> None:
        start = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        await send(start)
        async for some in self._body:
            if some:
                await self._patiently(send({"type": "http.response.body", "body": some, "more_body": True}))
        await self._patiently(send({"type": "http.response.body", "body": b"", "more_body": False}))

    async def _patiently(self, sent: Awaitable[None]) -> None:
        going = asyncio.ensure_future(sent)
        try:
            if not (await asyncio.wait({going}, timeout=self._patience))[0]:
                raise Slow
            going.result()
        finally:
            going.cancel()
