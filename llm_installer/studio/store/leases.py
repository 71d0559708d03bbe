"""The watch over leases: which jobs have lost their worker.

A lease is over when it was not renewed for as long as it lasts, by the watch's own clock, which nobody sets. So a
clock that is set ends no lease and lengthens none, and after a server was away its workers have all that time to
come back. One server watches a database (on Postgres whoever holds the advisory lock).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

from sqlalchemy import select, text

from llm_installer.studio.states import HELD
from llm_installer.studio.store import claims, jobs
from llm_installer.studio.store.opening import Store
from llm_installer.studio.store.tables import Job

_LOCK = 0x57D11
Seen = tuple[int, datetime | None]
"""Attempt and lease of a job, which change with every word of its worker."""


class Watch:
    """Remembers since when each lease is as it is."""

    def __init__(self, store: Store, lease: float = claims.LEASE, clock: Callable[[], float] = time.monotonic) -> None:
        self._store, self._lease, self._clock = store, lease, clock
        self._since: dict[str, tuple[Seen, float]] = {}

    def look(self) -> list[str]:
        """Put jobs whose worker was silent for too long back, and return their ids."""
        with self._store.reading() as session:
            leased = select(Job.id, Job.attempt, Job.lease_until).where(Job.state.in_(HELD))
            rows = session.execute(leased.where(Job.lease_until.is_not(None))).all()
        now = self._clock()
        present: dict[str, Seen] = {row.id: (row.attempt, row.lease_until) for row in rows}
        known = {id: found for id, found in self._since.items() if present.get(id) == found[0]}
        self._since = {id: known.get(id, (seen, now)) for id, seen in present.items()}
        silent = [id for id, (_, since) in self._since.items() if now - since >= self._lease]
        return [id for id in silent if self._lost(id)]

    def _lost(self, job_id: str) -> bool:
        """Whether it is as it was seen; then it is put back."""
        with self._store.writing() as session:
            job = jobs.locked(session, job_id)
            if job.state not in HELD or (job.attempt, job.lease_until) != self._since[job_id][0]:
                return False
            claims.lose(job, session, self._store.now(session), "its worker was not heard of any more")
            return True


@contextmanager
def only_watch(store: Store) -> Iterator[bool]:
    """Whether nobody else watches this database; for as long as this lasts, nobody else will."""
    if not store.postgres:
        yield True  # one server on a data folder, which its lock sees to
        return
    with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        won = bool(connection.scalar(text(f"SELECT pg_try_advisory_lock({_LOCK})")))
        try:
            yield won
        finally:
            if won:
                connection.execute(text(f"SELECT pg_advisory_unlock({_LOCK})"))
