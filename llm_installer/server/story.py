"""The story of a server: take the address, load the base and its runs, answer until it is told to end."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

import uvicorn

from llm_installer.core.paths import ModelDir
from llm_installer.core.run.served import ServedRuns
from llm_installer.core.startup import import_bitsandbytes, ready
from llm_installer.core.voice import Voice
from llm_installer.inference.engine.engine import Engine
from llm_installer.inference.engine.request import Limits
from llm_installer.server.app import app_of
from llm_installer.server.catalogue import Catalogue
from llm_installer.server.listening import address_of, listening, signals_stay_here
from llm_installer.server.request import ServedModel, ServeRequest, Serving
from llm_installer.server.service import Service

GRACE = 5
"""Seconds that clients have to hear the end."""
KEEP_ALIVE = 75
"""Seconds after which a connection that is not used is closed; longer than clients keep theirs."""


class Server:
    """A server that has its models and its address, and answers in `run`."""

    def __init__(self, service: Service, listener: socket.socket, serving: Serving) -> None:
        self.service, self.serving = service, serving
        self._listener = listener
        config = uvicorn.Config(
            app_of(service),
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="error",
            access_log=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=GRACE,
        )
        self._uvicorn = _Uvicorn(config, service.end)

    @property
    def started(self) -> bool:
        """It takes requests."""
        return self._uvicorn.started

    def run(self) -> None:
        """Answer until `stop`, or a signal where this is the main thread."""
        with signals_stay_here():
            self._uvicorn.run(sockets=[self._listener])

    def stop(self) -> None:
        """End it; from any thread."""
        self._uvicorn.should_exit = True
        self.service.end()


class _Uvicorn(uvicorn.Server):
    """Whose clients hear of a signal at once."""

    def __init__(self, config: uvicorn.Config, ends: Callable[[], None]) -> None:
        super().__init__(config)
        self._ends = ends

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._ends()
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Who has not sent or read all of it in time is cut off; uvicorn would show a traceback for each."""
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        await super().shutdown(sockets)


@contextmanager
def opened(folder: ModelDir, request: ServeRequest, voice: Voice) -> Iterator[Server]:
    """A server of the base and the runs in `folder`. Raises UsageError where the address is taken or is not of this
    machine, and what loading a model raises."""
    with listening(request.host, request.port) as listener:
        with voice.waiting("Loading the model"):
            import_bitsandbytes()
            limits = Limits(request.rows, request.queue, int(request.cache_gib * (1 << 30)))
            engine = Engine(folder, limits, request.quantised)
        address = address_of(request.host, listener.getsockname()[1])
        told = _told(folder, address)
        catalogue = Catalogue(engine, folder, voice.line, told.tell if told else lambda runs: None)
        service = Service(engine, catalogue, request)
        try:
            with voice.waiting("Loading the runs"):
                catalogue.entries()
            ready()
            yield Server(service, listener, _serving(folder, address, request, catalogue))
        finally:
            if told:
                told.close()
            service.close()


def _serving(folder: ModelDir, address: str, request: ServeRequest, catalogue: Catalogue) -> Serving:
    models = tuple(
        ServedModel(entry.id, entry.words if entry.root == entry.id else f"now {entry.root}")
        for entry in catalogue.entries()
    )
    return Serving(folder, address, bool(request.api_key), models)


def _told(folder: ModelDir, address: str) -> ServedRuns | None:
    """What tells others which runs are served; None where that cannot be written down."""
    with suppress(OSError):
        return ServedRuns(folder, address)
    return None
