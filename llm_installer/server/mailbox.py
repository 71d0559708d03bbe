"""From the engine's thread to the loop: events of one client's answers, at most so many at a time."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress

from llm_installer.inference.engine.request import Done, Event, Listener, Piece

MOST = 8192
"""Events that may wait for a client; one that reads nothing is cut off long before, but for very fast models."""
Mail = tuple[int, Event]
"""Which prompt of the request, and what became of it."""


class Mailbox:
    """Events wait here until the client's own task takes them."""

    def __init__(self, most: int = MOST) -> None:
        self._loop = asyncio.get_running_loop()
        self._most = most
        self._mail: deque[Mail] = deque()
        self._some = asyncio.Event()
        self.overflown = False
        """More came than may wait: what came since then is lost."""

    def listener(self, prompt: int) -> Listener:
        """What the engine calls with the events of one prompt."""

        def hear(event: Event) -> None:
            if len(self._mail) >= self._most and isinstance(event, Piece):
                self.overflown = True
                return
            first = not self._mail
            self._mail.append((prompt, event))
            if first or isinstance(event, Done):
                with suppress(RuntimeError):  # the loop has ended, and nobody listens any more
                    self._loop.call_soon_threadsafe(self._some.set)

        return hear

    async def take(self, seconds: float | None = None) -> list[Mail]:
        """What has come; waits for the first, none after so many seconds."""
        self._some.clear()
        if not self._mail:
            # Not asyncio.wait_for, which loses a cancellation that comes together with what it waits for.
            alarm = self._loop.call_later(seconds, self._some.set) if seconds is not None else None
            await self._some.wait()
            if alarm:
                alarm.cancel()
        found = list[Mail]()
        while self._mail:
            found.append(self._mail.popleft())
        return found
