"""What a worker says to its studio of one job; while the studio is away that is kept, and said later.

Training never waits for the studio.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from llm_installer.core.errors import InstallerError
from llm_installer.studio import states
from llm_installer.studio.plain import Json
from llm_installer.studio.worker.client import Away, Patience, Refusal, Replaced, Server

AT_ONCE = 2000
"""Events of one report."""
WORDS = 8
"""Times that the end of a job is told to a studio that is away; without that it learns it from the lease."""


class Cancelled(InstallerError):
    """Someone wants the job to end."""


class Ending(InstallerError):
    """This worker is to end."""


@dataclass(frozen=True)
class Work:
    """What the studio said of a claimed job."""

    id: str
    attempt: int
    model: str
    options: Json
    data: Mapping[str, object] | None
    lease: float
    sent: Mapping[str, int] = field(default_factory=dict)
    """The last step of each kind of metrics that the studio has."""
    engine: str = "local"
    checkpoint: Json | None = None
    """The newest checkpoint that the studio has: run, step and files."""

    @classmethod
    def of(cls, claimed: Json) -> Work:
        """From the answer to a claim."""
        options, data, sent = (claimed.get(name) or {} for name in ("options", "data", "sent"))
        assert isinstance(options, dict) and isinstance(data, dict) and isinstance(sent, dict)
        attempt, lease = claimed["attempt"], claimed["lease"]
        assert isinstance(attempt, int) and isinstance(lease, (int, float))
        kept = claimed.get("checkpoint")
        assert kept is None or isinstance(kept, dict)
        return cls(
            str(claimed["id"]), attempt, str(claimed["model"]), options, data or None, lease, sent,
            engine=str(claimed.get("engine", "local")), checkpoint=kept,
        )  # fmt: skip


class Telling:
    """Remembers what was not told yet. `state` and `seen` are set by whoever does the job."""

    def __init__(self, server: Server, work: Work, ending: threading.Event) -> None:
        self.server, self.work, self.ending = server, work, ending
        self.state = self._told = states.PREPARING
        self.seen: Json = {}
        """Run, step, steps and progress, as far as they are known."""
        self.waiting: list[Json] = []
        """Events that the studio does not have, as far as its answers say."""
        self._before = 0
        """How many it has."""
        self._next, self._patience = 0.0, Patience()

    def say(self, text: str, level: str = "info") -> None:
        """A sentence for whoever follows the job."""
        self.waiting.append({"type": "message", "level": level, "data": {"text": text}})

    def tell(self) -> None:
        """Tell what is new, or that this worker is there, where it is time for that. Raises Cancelled and Replaced."""
        due = self.waiting or self.state != self._told or time.monotonic() >= self._next
        if not due or not self._patience.over:
            return
        try:
            heard = self._report()
        except Away:
            self._patience.failed()
            return
        self._patience.met()
        self._next = time.monotonic() + self.work.lease / 4
        if heard.get("cancel"):
            raise Cancelled("The job was cancelled")

    def _report(self) -> Json:
        """The oldest of what waits, told now; what the studio answers."""
        events, state = self.waiting[:AT_ONCE], self.state
        numbers = {"attempt": self.work.attempt, "before": self._before}
        report = {**numbers, "state": state, "events": events, **self.seen}
        heard = self.server.tell(self.work.id, "report", report)
        self._told = state
        self._done_with(len(events))
        return heard

    def _done_with(self, count: int) -> None:
        self.waiting, self._before = self.waiting[count:], self._before + count

    def pause(self, seconds: float) -> None:
        """Tell, and wait for a moment. Raises Ending too."""
        self.tell()
        if self.ending.wait(seconds):
            raise Ending("This worker is to end")

    def persist(self, call: Callable[[], object]) -> None:
        """Do something with the studio until it can be reached. Raises Ending, and what `call` raises."""
        patience = Patience()
        while True:
            try:
                call()
                return
            except Away:
                if self.ending.wait(patience.failed()):
                    raise Ending("This worker is to end") from None

    def end(self, how: str, why: str) -> None:
        """The job is not done: `fail` or `give-back`. What waits is told first: after that nobody may tell it."""
        patience, away = Patience(2.0), 0
        while away < WORDS:
            try:
                while self.waiting:
                    self._report()
                self.server.tell(self.work.id, how, {"attempt": self.work.attempt, "why": why})
                return
            except Away:
                away += 1
                time.sleep(patience.failed())
            except Replaced:
                return
            except Refusal:
                if not self.waiting:
                    return
                self._done_with(min(AT_ONCE, len(self.waiting)))  # what was refused would be refused again
