"""The story of a worker: find a studio, take its jobs one after the other, end well when asked."""

from __future__ import annotations

import os
import platform
import signal
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from llm_installer.core.home import llm_home
from llm_installer.studio.colab.wheel import differs, running_version
from llm_installer.studio.plain import KEY, Json
from llm_installer.studio.worker.client import Away, Patience, Refusal, Server
from llm_installer.studio.worker.job import Job
from llm_installer.studio.worker.telling import Work

EVERY = 1.0
"""Seconds after which a worker without a job asks again."""
HERE = "this machine"
"""The worker that a studio starts by itself."""


@dataclass(frozen=True)
class WorkerRequest:
    """For whom to work."""

    server: str
    """Address of a studio."""
    job: str = ""
    """One job alone; then the worker ends."""
    token: str = ""
    engines: tuple[str, ...] = ("worker",)
    embedded: bool = False
    """Started by the studio of this machine: it ends with that one, and has its name."""

    @property
    def paired(self) -> bool:
        """Whether all it has is the token of one job, whose studio has seen its code already."""
        return bool(self.token) and not self.embedded and not self.token.startswith(KEY)

    @property
    def name(self) -> str:
        """How the studio calls it."""
        return HERE if self.embedded else f"{platform.node()}:{os.getpid()}-{uuid.uuid4().hex[:6]}"


def work(request: WorkerRequest, say: Callable[[str], None]) -> None:
    """Take jobs until a signal, or do the one that was asked for. Raises Refusal where the studio refuses."""
    ending = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ending.set())
    if request.embedded:
        threading.Thread(target=_end_with_the_studio, daemon=True).start()
    server = Server(request.server, request.token)
    try:
        _loop(server, request, ending, say)
    finally:
        server.close()


def _loop(server: Server, request: WorkerRequest, ending: threading.Event, say: Callable[[str], None]) -> None:
    name, patience, known = request.name, Patience(), request.paired
    while not ending.is_set():
        try:
            if not known:
                _same_code(server.hello(name, request.embedded), request)
                known = True
            claimed = server.claim(name, request.engines, request.job)
        except Away as why:
            say(f"{why}; trying again")
            ending.wait(patience.failed())
            continue
        patience.met()
        if claimed is None:
            if request.job:
                say(f"Job {request.job} is not waiting for a worker")
                return
            ending.wait(EVERY)
            continue
        found = Work.of(claimed)
        say(f"Job {found.id}: {found.model}, attempt {found.attempt}")
        Job(server, found, job_folder(found.id), ending).do()
        say(f"Job {found.id}: done with")
        if request.job:
            return


def _same_code(heard: Json, request: WorkerRequest) -> None:
    """Raise Refusal where the studio runs other code; the worker that it starts itself is as new as its files."""
    if not request.embedded and (why := differs(str(heard.get("version")), running_version())):
        raise Refusal(why)


def job_folder(job_id: str) -> Path:
    """A job's folder on the machine that does it."""
    return llm_home() / "studio" / "jobs" / str(uuid.UUID(job_id))


def _end_with_the_studio() -> None:
    """The studio holds the other end of the pipe: when that closes, the keepers kill what is being done."""
    while os.read(0, 64):
        pass
    os._exit(1)
