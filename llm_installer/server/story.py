"""The story of a server: take the address, load the base and its runs, answer until it is told to end."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from types import FrameType

from starlette.types import ASGIApp

from llm_installer.core.errors import UsageError
from llm_installer.core.hardware import memory_bytes, probe_hardware
from llm_installer.core.paths import ModelDir
from llm_installer.core.run.served import ServedRuns
from llm_installer.core.startup import import_bitsandbytes, ready
from llm_installer.core.text import size
from llm_installer.core.voice import Voice
from llm_installer.inference.engine.engine import Engine
from llm_installer.inference.engine.request import Limits
from llm_installer.inference.loadable import base_bytes
from llm_installer.server.answering import Answering
from llm_installer.server.app import app_of
from llm_installer.server.catalogue import Catalogue
from llm_installer.server.hosts import Host, Hosts
from llm_installer.server.listening import address_of, listening, signals_stay_here
from llm_installer.server.request import ServedModel, ServeRequest, Serving
from llm_installer.server.service import Service


class Server:
    """A server that has its models and its address, and answers in `run`."""

    def __init__(self, service: Service, listener: socket.socket, serving: Serving) -> None:
        self.service, self.serving = service, serving
        self._listener = listener
        self._uvicorn = _Uvicorn(app_of(service), service.end)

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


class _Uvicorn(Answering):
    """Whose clients hear of a signal at once."""

    def __init__(self, app: ASGIApp, ends: Callable[[], None]) -> None:
        super().__init__(app)
        self._ends = ends

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._ends()
        super().handle_exit(sig, frame)


@contextmanager
def opened(folders: Sequence[ModelDir], request: ServeRequest, voice: Voice) -> Iterator[Server]:
    """A server of the bases and the runs in `folders`. Raises UsageError where the address is taken or is not of this
    machine or two models have one name, and what loading a model raises."""
    with ExitStack() as opened:
        _refuse_same_names(folders)
        listener = opened.enter_context(listening(request.host, request.port))
        address = address_of(request.host, listener.getsockname()[1])
        import_bitsandbytes()
        if len(folders) > 1:
            voice.line(memory_words(folders, request))
        hosts = Hosts([_host(folder, request, voice, address, opened) for folder in folders])
        service = Service(hosts, request)
        opened.callback(service.close)
        ready()
        yield Server(service, listener, _serving(folders, address, request, hosts))


def _host(folder: ModelDir, request: ServeRequest, voice: Voice, address: str, opened: ExitStack) -> Host:
    """A model directory, loaded, its runs too; what it holds is let go with `opened`."""
    limits = Limits(request.rows, request.queue, int(request.cache_gib * (1 << 30)))
    with voice.waiting(f"Loading {folder.root.name}"):
        engine = Engine(folder, limits, request.quantised)
        opened.callback(engine.close)
    told = _told(folder, address)
    if told:
        opened.callback(told.close)
    catalogue = Catalogue(engine, folder, voice.line, told.tell if told else lambda runs: None)
    with voice.waiting(f"Loading the runs of {folder.root.name}"):
        catalogue.entries()
    return Host(engine, catalogue)


def _refuse_same_names(folders: Sequence[ModelDir]) -> None:
    names = [folder.root.name for folder in folders]
    twice = next((name for name in names if names.count(name) > 1), "")
    if twice:
        words = f"Two of these models are called {twice}, and requests could not tell them apart"
        raise UsageError(f"{words}; serve one of them, or rename its folder")


def memory_words(folders: Sequence[ModelDir], request: ServeRequest) -> str:
    """What several models take of the memory, before one of them is loaded."""
    held = [base_bytes(folder, request.quantised) for folder in folders]
    each = ", ".join(f"{folder.root.name} {size(bytes)}" for folder, bytes in zip(folders, held, strict=True))
    most = sum(held) + len(held) * int(request.cache_gib * (1 << 30))
    words = f"Weights: {each}; with what is read and said {size(most)} at most"
    if probe_hardware().device != "cpu":
        return f"{words}."
    free = memory_bytes()[0]
    enough = "" if most <= free else "; serve fewer models, or give them less with --cache-gib or --use-4bit"
    return f"{words}, and {size(free)} are free{enough}."


def _serving(folders: Sequence[ModelDir], address: str, request: ServeRequest, hosts: Hosts) -> Serving:
    models = tuple(
        ServedModel(entry.id, entry.words if entry.root == entry.id else f"now {entry.root}")
        for _, entry in hosts.entries()
    )
    return Serving(tuple(folders), address, bool(request.api_key), models)


def _told(folder: ModelDir, address: str) -> ServedRuns | None:
    """What tells others which runs are served; None where that cannot be written down."""
    with suppress(OSError):
        return ServedRuns(folder, address)
    return None
