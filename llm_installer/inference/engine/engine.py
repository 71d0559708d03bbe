"""The engine: its own thread reads prompts and makes answers for everybody who asks, in one batch."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Lock

import torch

from llm_installer.core.paths import ModelDir
from llm_installer.core.text import counted
from llm_installer.inference.engine.models import Models
from llm_installer.inference.engine.request import (
    Counts,
    EngineEnded,
    Limits,
    Listener,
    QueueFull,
    Request,
    Ticket,
    TooLong,
    UnknownModel,
)
from llm_installer.inference.engine.rows import Family, Served, Taken, family
from llm_installer.inference.engine.scheduler import Scheduler


class Engine:
    """A base with its adapters, answering. All that touches the model happens on one thread, a step at a time."""

    def __init__(self, folder: ModelDir, limits: Limits | None = None, quantised: str = "") -> None:
        """Load the base, quantised as its files are or as `quantised` names. Raises what load_assistant does."""
        limits = limits or Limits()
        self._models = Models(folder, quantised)
        self.served: Mapping[str, Served] = dict(self._models.served)
        """BASE and every adapter, by name."""
        self.positions = self._models.positions
        """Tokens that a prompt with its answer may have."""
        self.why_alone = self._models.tried.why_alone
        """Why rows are answered one after the other; empty where they are answered together."""
        self.fault = ""
        """What ended it, which should never be."""
        self._limits = limits
        self._scheduler = Scheduler(self._models.batch(limits), limits, self._models.tried.token_bytes)
        self._waiting: deque[Family] = deque()
        self._taken = 0
        self._lock = Lock()
        self._going = self._closed = False
        self._thread = ThreadPoolExecutor(1, "engine")

    @property
    def alive(self) -> bool:
        """It answers."""
        return not (self._closed or self.fault)

    def add(self, name: str, lora: Path) -> None:
        """Serve the adapter in `lora` by this name. Raises AdapterError for one that cannot be."""
        self._thread.submit(self._models.add, name, lora).result()
        with self._lock:  # one that is being removed is still among the models, and not served any more
            self.served = {**self.served, name: self._models.served[name]}

    def remove(self, name: str) -> None:
        """Serve it no more: what has begun is answered to its end, what comes is unknown."""
        with self._lock:
            self.served = {known: served for known, served in self.served.items() if known != name}
        self._thread.submit(self._retire, name).result()

    def submit(self, request: Request, listener: Listener) -> Ticket:
        """Take a request; its events come to `listener`. Raises UnknownModel, TooLong, QueueFull and EngineEnded."""
        served = self._served(request)
        self._refuse(request)
        taken = Taken(request, listener, len(request.ids))
        each = [range(request.n)] if not self.why_alone else [range(i, i + 1) for i in range(request.n)]
        families = [family(taken, served, indices) for indices in each]  # without the lock, which a step waits for
        with self._lock:
            self._refuse(request)
            if self._served(request) is not served:
                raise UnknownModel(f"The model {request.model} has changed this moment")
            self._waiting += families
            self._taken += 1
            if not self._going:
                self._go()
        return taken

    def counts(self) -> Counts:
        """What it does now and has done."""
        return self._scheduler.counts(len(self._waiting), self._taken)

    def close(self) -> None:
        """End it; whoever still waits hears that it was cancelled."""
        with self._lock:
            self._closed = True
        self._thread.shutdown()
        self._scheduler.drop_all(self._waiting, "cancelled")

    def _refuse(self, request: Request) -> None:
        if not self.alive:
            raise EngineEnded(f"the engine has ended: {self.fault or 'it was closed'}")
        self._refuse_too_long(request)
        if len(self._waiting) >= self._limits.queue:
            raise QueueFull(f"{counted(len(self._waiting), 'request')} wait already; try again in a moment")

    def _served(self, request: Request) -> Served:
        served = self.served.get(request.model)
        if served is None:
            raise UnknownModel(f"No model is served by the name {request.model}")
        return served

    def _refuse_too_long(self, request: Request) -> None:
        whole = len(request.ids) + request.max_new_tokens
        if whole > self.positions:
            raise TooLong(
                f"The prompt has {counted(len(request.ids), 'token')} and its answer may have "
                f"{request.max_new_tokens:,}; this model reads {self.positions:,} in all"
            )
        if self.why_alone:
            return
        if request.n > self._limits.rows:
            raise TooLong(f"{request.n:,} answers were asked for, and {self._limits.rows:,} can be made at once")
        if request.n * whole * self._models.tried.token_bytes > self._limits.cache_bytes:
            raise TooLong(f"There is no memory for {counted(request.n, 'answer')} of {whole:,} tokens; ask for less")

    def _retire(self, name: str) -> None:
        """Let an adapter go once nobody is answered by it, or waits to be."""
        with self._lock:
            self._scheduler.know(self._waiting)
        self._scheduler.when_unused(name, lambda: self._remove(name))

    def _remove(self, name: str) -> None:
        self._scheduler.forget(name)
        self._models.remove(name)

    def _go(self) -> None:
        """Do a step, and then the next; what else waits for the thread comes in between."""
        self._going = True
        # Called with the lock, which the step begins with: it cannot have ended before it is asked to call back.
        self._thread.submit(self._step).add_done_callback(self._stepped)

    @torch.inference_mode()
    def _step(self) -> None:
        with self._lock:
            self._scheduler.admit(self._waiting)
        self._scheduler.step()

    def _stepped(self, step: Future[None]) -> None:
        with self._lock:
            if error := step.exception():
                self.fault = f"{type(error).__name__}: {error}"
                self._scheduler.drop_all(self._waiting, "error", self.fault)
            elif not self._closed and (self._waiting or self._scheduler.busy):
                self._go()
            else:
                self._going = False
