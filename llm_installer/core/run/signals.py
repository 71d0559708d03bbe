"""How a run is asked to end or to save: by signals, from another shell, by a callback. A second signal ends at once."""

from __future__ import annotations

import _thread
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import TypeVar

from llm_installer.core.errors import Interrupted, StoppedAtOnce

T = TypeVar("T")
_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))

_AGAIN = 0.01
"""Seconds after which a signal that was lost is sent once more."""
SAME = 1.0
"""Seconds within which further SIGTERMs and SIGHUPs belong to one request: a service that is stopped and a terminal
that is closed send several, from several sides. Each SIGINT is a person's own."""


def is_repeated(number: int, since: float) -> bool:
    """Whether a signal that comes `since` seconds after the first one asks once more."""
    return number == signal.SIGINT or since > SAME


@dataclass
class Requests:
    """What was asked of the run while it goes on; the loop looks after each step."""

    number: int = 0
    """Signal that asked for the end; 0 while none has."""
    why: str = ""
    """Who else asked for the end, as the end of the sentence `Stopped because ...`."""
    save: bool = False
    came: float | None = None
    """When (monotonic) this process was first sent a signal: with several, another one may have heard of it before."""

    def take(self, number: int) -> None:
        """This process was sent a signal; 0 for none. Raises StoppedAtOnce where it asks for the second time."""
        if not number:
            return
        now = time.monotonic()
        if self.came is None:
            self.came = now
        elif is_repeated(number, now - self.came):
            raise StoppedAtOnce(number)
        self.hear(number)

    def hear(self, number: int) -> None:
        """Some process of this run was sent this signal; 0 for none, which takes back none that came meanwhile."""
        if number:
            self.number = number

    def ask_stop(self, why: str) -> None:
        """Ask for the end after the present step."""
        self.why = self.why or why

    def ask_save(self) -> None:
        """Ask for a checkpoint after the present step."""
        self.save = True

    def saved(self) -> None:
        """A checkpoint was written."""
        self.save = False


@contextmanager
def stop_requests() -> Iterator[Requests]:
    """Collect the first signal for as long as this lasts; outside the main thread there is nothing to collect."""
    requests = Requests()

    def ask(number: int, _frame: FrameType | None) -> None:
        requests.take(number)

    with _handled_by(ask):
        yield requests


class Early:
    """Work at the end of a run that may be left out: the first signal ends it at once, and nothing else."""

    def __init__(self, number: int) -> None:
        self.stopped = _interrupted(number) if number else None
        """The signal that asked for the end, `number` if that came before."""
        self._within = False

    def attempt(self, work: Callable[[], T], otherwise: T) -> T:
        """What `work` makes, or `otherwise` where a signal came before it was done."""
        if self.stopped:
            return otherwise
        self._within = True
        try:
            return work()
        except Interrupted as asked:
            self.stopped = asked
            return otherwise
        finally:
            self._within = False

    def ask(self, number: int, _frame: FrameType | None) -> None:
        """A signal came."""
        asked = _interrupted(number)
        if self._within:
            self.stopped = asked
            raise asked
        self.stopped = self.stopped or asked


@contextmanager
def early_end(number: int) -> Iterator[Early]:
    """For as long as this lasts signals only end what Early attempts; `number` is one that came before, or 0."""
    early = Early(number)
    with _handled_by(early.ask):
        yield early


def _interrupted(number: int) -> Interrupted:
    return Interrupted(f"Interrupted by {signal.Signals(number).name}", number)


@contextmanager
def _handled_by(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Signals that ask for the end go to `handler`, but for those that are ignored; in a thread none can be caught."""
    before = {}
    with suppress(ValueError):
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup means: go on
                before[number] = signal.signal(number, handler)
    try:
        with _never_lost():
            yield
    finally:
        for number, usual in before.items():
            signal.signal(number, usual)


@contextmanager
def _never_lost() -> Iterator[None]:
    """What a handler raises while Python is in a __del__ or a callback of weakref is printed there and forgotten: such
    a signal is sent once more, until it is heard."""
    usual = sys.unraisablehook
    waiting: list[threading.Timer] = []

    def hook(lost: sys.UnraisableHookArgs) -> None:
        if not isinstance(lost.exc_value, Interrupted):
            usual(lost)
            return
        # From another thread: here it would be lost again.
        again = threading.Timer(_AGAIN, _thread.interrupt_main, (lost.exc_value.number,))
        again.daemon = True
        waiting.append(again)
        again.start()

    sys.unraisablehook = hook
    try:
        yield
    finally:
        for again in waiting:
            again.cancel()
        if sys.unraisablehook is hook:
            sys.unraisablehook = usual
