"""The story of a studio: one on a data folder, two processes. This one answers; the other one, its worker, trains."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from filelock import FileLock, Timeout
from sqlalchemy.exc import OperationalError
from starlette.types import ASGIApp

from llm_installer.core.errors import InstallerError
from llm_installer.core.files import write_json
from llm_installer.core.home import llm_home
from llm_installer.core.json_file import read_object
from llm_installer.core.text import short_path, shortened
from llm_installer.server.answering import Answering
from llm_installer.server.listening import address_of, listening, signals_stay_here
from llm_installer.studio import insight
from llm_installer.studio.access import audit
from llm_installer.studio.access.starting import first_link
from llm_installer.studio.api.tail import Tail
from llm_installer.studio.app import app_of
from llm_installer.studio.context import Studio
from llm_installer.studio.pages.children import CHATS, end_all
from llm_installer.studio.plain import TOKEN
from llm_installer.studio.request import StudioRequest
from llm_installer.studio.store import cleaning
from llm_installer.studio.store.leases import Watch, only_watch
from llm_installer.studio.store.opening import open_store
from llm_installer.studio.webhooks.sending import Sender
from llm_installer.studio.worker.client import Patience

SAVING = 180.0
"""Seconds that a training has to save its work when the studio ends."""
SWEEP = 3600.0
"""Seconds between two times that what nothing refers to is deleted."""
FILE = "studio.sqlite3"


class Running:
    """A studio that has its address and its database, and answers in `run`."""

    def __init__(self, studio: Studio, sockets: list[socket.socket], worker: WorkerHost | None) -> None:
        self.studio = studio
        self.first_link = first_link(studio) if studio.settings.people else ""
        """Where the first account is made; empty where there is one."""
        self._sockets, self._worker = sockets, worker
        self._uvicorn = _Uvicorn(app_of(studio), self.stop)

    def run(self) -> None:
        """Answer until a signal, or `stop`."""
        watching = threading.Thread(target=_watch, args=(self.studio, ending := threading.Event()), daemon=True)
        watching.start()
        sender = Sender(self.studio.store, self.studio.signer, self.studio.addresses)
        sender.start()
        if self._worker:
            self._worker.start()
        try:
            with signals_stay_here():
                self._uvicorn.run(sockets=self._sockets)
        finally:
            ending.set()
            end_all(self.studio.folder / CHATS)
            insight.WARM.end()
            if self._worker:
                self._worker.stop()
            sender.stop()
            watching.join()

    def stop(self) -> None:
        """End it: first the worker, which saves its work and says so to this server, then the server; from any
        thread."""
        threading.Thread(target=self._stop, daemon=True).start()

    def _stop(self) -> None:
        if self._worker:
            self._worker.stop()
        self.studio.tail.end()
        self._uvicorn.should_exit = True


class _Uvicorn(Answering):
    """That ends as its studio wants; a second signal ends it at once."""

    def __init__(self, app: ASGIApp, stop: Callable[[], None]) -> None:
        super().__init__(app)
        self._stop, self._asked = stop, False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._asked:
            super().handle_exit(sig, frame)
        else:
            self._asked = True
            self._stop()


class WorkerHost:
    """The worker of this machine, started again whenever it dies. It ends with this process: it reads a pipe of which
    this process holds the other end."""

    def __init__(self, address: str, log: Path, key: str) -> None:
        self._command = [sys.executable, "-m", "llm_installer", "worker", "--server", address, "--embedded"]
        self._environment = {**os.environ, TOKEN: key}  # which no list of processes shows
        self._log, self._ending = log, threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._keep, daemon=True)

    def start(self) -> None:
        """Start it, and keep it running."""
        self._thread.start()

    def stop(self) -> None:
        """Let it save its work and end; may be called more than once."""
        with self._lock:
            self._ending.set()
            process = self._process
        if process is None:
            return
        with suppress(OSError):
            process.terminate()
        try:
            process.wait(SAVING)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _keep(self) -> None:
        patience = Patience()
        while not self._ending.wait(0 if self._process is None else patience.failed()):
            with self._lock, self._log.open("ab") as log:
                if self._ending.is_set():
                    return
                self._process = subprocess.Popen(
                    self._command, stdin=subprocess.PIPE, stdout=log, stderr=log, env=self._environment
                )
            self._process.wait()
            if self._process.stdin:
                self._process.stdin.close()


@contextmanager
def opened(request: StudioRequest) -> Iterator[Running]:
    """A studio on the data folder of this user. Raises UsageError where the address is taken, and InstallerError where
    another studio has the folder, or the database cannot be opened."""
    folder = data_folder()
    with _only_one(folder), listening(request.host, request.port) as listener:
        address = address_of(request.host, listener.getsockname()[1])
        write_json(folder / "server.json", {"address": address, "pid": os.getpid()}, 0o600)
        spool = folder / "spool"
        spool.mkdir(exist_ok=True)
        for left in spool.iterdir():
            left.unlink(missing_ok=True)
        tempfile.tempdir = str(spool)  # uploads are kept there while they come: on this disk, not in memory
        store = open_store(request.database or folder / FILE)
        try:
            studio = Studio(request, store, folder, address, Tail(store))
            key = studio.worker_key if request.people else ""
            worker = WorkerHost(address, folder / "worker.log", key) if request.worker else None
            yield Running(studio, [listener], worker)
        finally:
            store.close()


def data_folder() -> Path:
    """LLM_HOME/studio, which only this user can read. Raises InstallerError."""
    folder = llm_home() / "studio"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
    except OSError as error:
        raise InstallerError(f"{short_path(folder)} cannot be made ({error.strerror})") from None
    return folder


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    lock = FileLock(folder / "server.lock", mode=0o600)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InstallerError(
            f"A studio is running on {short_path(folder)} already{_who(folder)}; open that one, or end it first"
        ) from None
    try:
        yield
    finally:
        lock.release()


def _who(folder: Path) -> str:
    try:
        found = read_object(folder / "server.json")
    except InstallerError:
        return ""
    return f": {found.get('address')}, process {found.get('pid')}"


def _watch(studio: Studio, ending: threading.Event) -> None:
    """Put jobs back whose worker is silent, until the end; one server of those on a database does."""
    while not ending.is_set():
        try:
            with only_watch(studio.store) as won:
                if won:
                    _watch_on(studio, ending)
        except OperationalError as error:  # the database is away; it may come back
            logging.getLogger(__name__).warning("The watch over jobs waits: %s", shortened(str(error.orig), 300))
        ending.wait(studio.settings.lease / 8)


def _watch_on(studio: Studio, ending: threading.Event) -> None:
    """For as long as nothing fails."""
    watch, swept = Watch(studio.store, studio.settings.lease), -SWEEP
    while not ending.wait(studio.settings.lease / 8):
        for job_id in watch.look():
            studio.tail.wake(job_id)
        if time.monotonic() - swept >= SWEEP:
            swept = time.monotonic()
            cleaning.sweep(studio.store, studio.folder)
            cleaning.sweep_tries(studio.store)
            audit.sweep(studio.store)
