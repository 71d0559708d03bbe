"""The first Ctrl-C, termination or closed terminal asks the run to end well; the second ends it at once."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from llm_installer.core.errors import Interrupted

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


@dataclass
class StopRequest:
    """Which signal asked for the end; 0 while none has."""

    number: int = 0


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Collect the first signal for as long as this lasts; outside the main thread there is nothing to collect."""
    request = StopRequest()

    def ask(number: int, _frame: FrameType | None) -> None:
        if request.number:
            raise Interrupted("Stopped at once, as asked twice.", number)
        request.number = number

    wanted = [n for n in _SIGNALS if signal.getsignal(n) is not signal.SIG_IGN]  # nohup means: go on
    try:
        before = {number: signal.signal(number, ask) for number in wanted}
    except ValueError:  # signals can be caught in the main thread only
        yield request
        return
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
