"""How a run is asked to end or to save: by signals, from another shell, by a callback. A second signal ends at once."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from llm_installer.core.errors import Interrupted

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


@dataclass
class Requests:
    """What was asked of the run while it goes on; the loop looks after each step."""

    number: int = 0
    """Signal that asked for the end; 0 while none has."""
    why: str = ""
    """Who else asked for the end, as the end of the sentence `Stopped because ...`."""
    save: bool = False

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
        if requests.number:
            raise Interrupted("Stopped at once, as asked twice.", number)
        requests.number = number

    wanted = [n for n in _SIGNALS if signal.getsignal(n) is not signal.SIG_IGN]  # nohup means: go on
    try:
        before = {number: signal.signal(number, ask) for number in wanted}
    except ValueError:  # signals can be caught in the main thread only
        yield requests
        return
    try:
        yield requests
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
