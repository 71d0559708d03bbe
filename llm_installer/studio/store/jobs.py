"""Jobs as those who want them see them: created, found, listed, cancelled, queued again. Claims are in claims.py.

Pages call `create`, `find`, `listed`, `cancel` and `again`; each takes a Session of `store.writing()` or `.reading()`.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from llm_installer.studio.plain import Json
from llm_installer.studio.states import (
    CANCELLED,
    CANCELLING,
    COMPLETED,
    ENDED,
    FAILED,
    HELD,
    QUEUED,
    RUNNING,
    allowed,
    status_of,
    words_of,
)
from llm_installer.studio.store import acting, events, quotas
from llm_installer.studio.store.events import NewEvent
from llm_installer.studio.store.opening import Store
from llm_installer.studio.store.refusals import NotAllowed, OtherBody, Unknown
from llm_installer.studio.store.tables import File, Job


@dataclass(frozen=True)
class NewJob:
    """What is asked of a new job."""

    model: str
    file_id: str | None
    options: Json = field(default_factory=dict)
    suffix: str = ""
    priority: int = 0
    engine: str = "local"
    owner: str = field(default_factory=acting.owner)
    seed: int | None = None
    labels: Json = field(default_factory=dict)
    predicted: Json = field(default_factory=dict)
    key: str | None = None
    """Idempotency key: the same one twice means the same job."""
    body: str = ""
    """What else must be the same with that key, such as the hash of the file that was sent along."""

    @property
    def digest(self) -> str:
        """SHA-256 of all that was asked. A file that was sent along has a new id each time: then `body` stands for
        it."""
        asked = asdict(self)
        left_out = {"key", "predicted"} | ({"file_id"} if self.body else set())
        words = json.dumps({name: value for name, value in asked.items() if name not in left_out}, sort_keys=True)
        return hashlib.sha256(words.encode()).hexdigest()


def create(store: Store, new: NewJob) -> tuple[Job, bool]:
    """(the job, whether it is new): the one that has the idempotency key already, where there is one.

    A transaction of its own. Raises OtherBody where the key was used for something else, and Unknown where the file
    is not there.
    """
    try:
        with store.writing() as session:
            if found := _same(session, new):
                return found, False
            return _insert(store, session, new), True
    except IntegrityError:  # on Postgres another one can have come between
        with store.reading() as session:
            if found := _same(session, new):
                return found, False
        raise


def _same(session: Session, new: NewJob) -> Job | None:
    if new.key is None:
        return None
    found = session.scalar(select(Job).where(Job.owner == new.owner, Job.idempotency_key == new.key))
    if found and found.idempotency_body != new.digest:
        raise OtherBody("This Idempotency-Key was used for another request; choose a new one")
    return found


def _insert(store: Store, session: Session, new: NewJob) -> Job:
    if new.file_id is not None and session.get(File, new.file_id) is None:
        raise Unknown(f"There is no file {new.file_id!r}")
    quotas.refuse_job(store, session)
    now = store.now(session)
    given = {name: getattr(new, name) for name in ("model", "file_id", "options", "suffix", "priority", "engine")}
    given |= {name: getattr(new, name) for name in ("owner", "seed", "labels", "predicted")}
    job = Job(
        id=str(uuid.uuid4()),
        created_at=now,
        updated_at=now,
        idempotency_key=new.key,
        idempotency_body=new.digest if new.key else "",
        made_for=new.engine,
        **given,
    )
    session.add(job)
    session.flush()
    events.add(session, job, [_state_event(job, "")], now)
    return job


def find(session: Session, job_id: str) -> Job:
    """A job. Raises Unknown."""
    if (job := session.get(Job, job_id)) is None:
        raise Unknown(f"There is no job {job_id!r}")
    return job


def locked(session: Session, job_id: str) -> Job:
    """A job that nobody else changes until the transaction ends. Raises Unknown."""
    job = session.scalar(select(Job).where(Job.id == job_id).with_for_update())
    if job is None:
        raise Unknown(f"There is no job {job_id!r}")
    return job


@dataclass(frozen=True)
class Wanted:
    """Which jobs a list shows."""

    states: tuple[str, ...] = ()
    """All where it is empty."""
    owner: str | None = None
    most: int = 50
    after: str = ""
    """The id of the job before the first one, as a list goes on."""


def listed(session: Session, wanted: Wanted) -> Sequence[Job]:
    """Jobs, the newest first. Raises Unknown where `after` is no job."""
    query = select(Job).order_by(Job.created_at.desc(), Job.id.desc()).limit(wanted.most)
    if wanted.states:
        query = query.where(Job.state.in_(wanted.states))
    if wanted.owner is not None:
        query = query.where(Job.owner == wanted.owner)
    if wanted.after:
        last = find(session, wanted.after)
        older = (Job.created_at == last.created_at) & (Job.id < last.id)
        query = query.where((Job.created_at < last.created_at) | older)
    return session.scalars(query).all()


def cancel(store: Store, session: Session, job_id: str) -> Job:
    """End a job: at once where nobody works on it, else its worker hears of it. Nothing happens to one that was
    cancelled already. Raises Unknown, and NotAllowed for one that ended otherwise."""
    job = locked(session, job_id)
    if job.state in (CANCELLING, CANCELLED):
        return job
    if job.state in ENDED:
        raise NotAllowed(f"Job {job.id} is {words_of(job.state)} and cannot be cancelled")
    now = store.now(session)
    if job.state in HELD:
        move(job, CANCELLING, session, now)
    if job.state not in HELD or job.lease_until is None:  # nobody who would hear of it
        move(job, CANCELLED, session, now)
    return job


def again(store: Store, session: Session, job_id: str) -> Job:
    """Queue a job once more that failed or was cancelled; it goes on from its newest checkpoint, where it has one.
    Raises Unknown and NotAllowed."""
    job = locked(session, job_id)
    move(job, QUEUED, session, store.now(session))
    return job


def move(job: Job, after: str, session: Session, now: datetime, why: str = "") -> None:
    """Put a locked job into another state, and write that down. `why` becomes its error where it fails. Raises
    NotAllowed where there is no such arrow."""
    if not allowed(job.state, after):
        raise NotAllowed(f"Job {job.id} is {words_of(job.state)}; it cannot become {after}")
    job.state, job.updated_at = after, now
    if after == QUEUED:  # once more: for whom it was made, and without what the last time left
        job.error, job.finished_at, job.engine = "", None, job.made_for or job.engine
    if after in ENDED:
        job.finished_at, job.lease_until = now, None
    if after == COMPLETED:
        job.progress = 100
    if after == FAILED:
        job.error = why or "It failed without a reason"
    if after in RUNNING and job.started_at is None:
        job.started_at = now
    events.add(session, job, [_state_event(job, why)], now)


def _state_event(job: Job, why: str) -> NewEvent:
    data: Json = {"state": job.state, "status": status_of(job.state), "attempt": job.attempt, "progress": job.progress}
    return NewEvent(events.STATE, data | ({"why": why} if why else {}), "error" if job.state == FAILED else "info")
