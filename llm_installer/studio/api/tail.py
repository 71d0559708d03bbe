"""The news of jobs, fanned out to streams: one look at the database for all who wait for the same job.

A stream that falls behind, or comes back, reads what it missed from the database by number, so nothing is kept here
but whom to wake.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field

from llm_installer.studio.store import events, jobs
from llm_installer.studio.store.opening import Store
from llm_installer.studio.store.tables import Event, Job

EVERY = 1.0
"""Seconds after which a job is looked at although nobody said that it has news, as another server may have."""
PING = 15.0
"""Seconds without news after which a stream says that it is alive."""
SNAPSHOT = 1000
"""Missed events for which one picture of the job is sent instead."""


@dataclass
class _Watched:
    """A job that streams wait for."""

    news: asyncio.Event = field(default_factory=asyncio.Event)
    streams: int = 0
    looking: asyncio.Task[int] | None = None


class Tail:
    """Whom to tell of which job."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._watched: dict[str, _Watched] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()
        self.ended = False

    def wake(self, job_id: str) -> None:
        """A job has new events; from any thread."""
        with self._lock:
            loop, watched = self._loop, self._watched.get(job_id)
        if loop and watched and not loop.is_closed():
            loop.call_soon_threadsafe(watched.news.set)

    def end(self) -> None:
        """The server ends, and so do all streams; from any thread."""
        self.ended = True
        with self._lock:
            loop, all_of_them = self._loop, list(self._watched.values())
        for watched in all_of_them:
            if loop and not loop.is_closed():
                loop.call_soon_threadsafe(watched.news.set)

    async def follow(self, job_id: str, last: int) -> AsyncIterator[list[Event] | None]:
        """The events of a job above the number `last`, as they come; None when there was nothing for PING seconds.
        Ends with the server. Raises Unknown once the job is deleted."""
        with self._lock:
            self._loop = asyncio.get_running_loop()
            watched = self._watched.setdefault(job_id, _Watched())
            watched.streams += 1
        silent = 0.0
        try:
            while not self.ended:
                if await self._newest(job_id, watched) > last:
                    found = await asyncio.to_thread(self._after, job_id, last)
                    last, silent = found[-1].id, 0.0
                    yield found
                    continue
                if silent >= PING:
                    silent = 0.0
                    yield None
                silent += EVERY
                await _news(watched)
        finally:
            with self._lock:
                watched.streams -= 1
                if not watched.streams:
                    self._watched.pop(job_id, None)

    async def _newest(self, job_id: str, watched: _Watched) -> int:
        """The number of the newest event, asked once for all streams that ask at the same time."""
        if watched.looking is None or watched.looking.done():
            watched.news.clear()
            watched.looking = asyncio.create_task(asyncio.to_thread(self._last_number, job_id))
        return await asyncio.shield(watched.looking)

    def _last_number(self, job_id: str) -> int:
        with self._store.reading() as session:
            jobs.find(session, job_id)
            return events.last_number(session, job_id)

    def _after(self, job_id: str, last: int) -> list[Event]:
        with self._store.reading() as session:
            jobs.find(session, job_id)  # it may have been deleted since it was looked at
            return list(events.after(session, job_id, last))

    def missed(self, job_id: str, last: int) -> tuple[Job, int, int]:
        """(the job, how many of its events are above `last`, the number of the newest). Raises Unknown."""
        with self._store.reading() as session:
            job = jobs.find(session, job_id)
            return job, events.count_after(session, job_id, last), events.last_number(session, job_id)


async def _news(watched: _Watched) -> None:
    """Until someone says that there is news, or for EVERY seconds."""
    with suppress(asyncio.TimeoutError, TimeoutError):
        await asyncio.wait_for(watched.news.wait(), EVERY)
