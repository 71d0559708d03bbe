"""Jobs as workers see them: claimed, reported on, given back, completed.

An attempt number comes with each claim. Everything a worker says names it, and what comes from an attempt that no
longer has the job raises Stale: a worker that was frozen and wakes up changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, select
from sqlalchemy import update as changed
from sqlalchemy.orm import Session

from llm_installer.studio.plain import Json
from llm_installer.studio.states import (
    CANCELLED,
    CANCELLING,
    CLAIMABLE,
    COMPLETED,
    ENDED,
    FAILED,
    HELD,
    PREPARING,
    QUEUED,
    RESUMABLE,
    RUNNING,
    TRAINING,
    status_of,
)
from llm_installer.studio.store import events, jobs
from llm_installer.studio.store.events import NewEvent
from llm_installer.studio.store.opening import Store
from llm_installer.studio.store.refusals import NotAllowed, Stale
from llm_installer.studio.store.tables import Checkpoint, Job

LEASE = 60.0
"""Seconds that a worker keeps a job without a word."""
NOTEBOOK = "a notebook"
"""The worker of jobs that are only told about."""
MOST_PROGRESS = 99
"""Of a job that is not completed."""


@dataclass(frozen=True)
class Claim:
    """Who wants a job, and which."""

    worker: str
    engines: tuple[str, ...] = ("local",)
    job_id: str = ""
    """This one alone; empty for whichever is next."""
    lease: float = LEASE


@dataclass(frozen=True)
class Told:
    """An update that names no attempt."""

    status: str
    """One of STATUSES."""
    progress: int | None = None
    error: str = ""


@dataclass(frozen=True)
class Report:
    """How far a worker is; what is None stays as it was."""

    attempt: int
    state: str | None = None
    progress: int | None = None
    step: int | None = None
    steps: int | None = None
    run: str | None = None
    measured: Json | None = None
    events: Sequence[NewEvent] = ()
    before: int | None = None
    """How many events of its attempt it told before these; None from one that does not count."""
    lease: float = LEASE


def claim(store: Store, claim: Claim) -> Job | None:
    """Take the next job: the highest priority, then the oldest; None where there is none. A transaction of its own,
    and one statement in it that takes: no two workers get the same job."""
    with store.writing() as session:
        now = store.now(session)
        waiting = select(Job.id).where(Job.state.in_(CLAIMABLE), Job.engine.in_(claim.engines))
        if claim.job_id:
            waiting = waiting.where(Job.id == claim.job_id)
        first = waiting.order_by(Job.priority.desc(), Job.created_at, Job.id).limit(1).with_for_update(skip_locked=True)
        taken = session.scalars(
            changed(Job)
            .where(Job.id == first.scalar_subquery(), Job.state.in_(CLAIMABLE))
            .values(
                state=PREPARING,
                attempt=Job.attempt + 1,
                heard=0,
                worker=claim.worker,
                lease_until=now + timedelta(seconds=claim.lease),
                updated_at=now,
            )
            .returning(Job)
        ).one_or_none()
        if taken is None:
            return None
        taken.started_at = taken.started_at or now
        data: Json = {"state": PREPARING, "status": taken.status, "attempt": taken.attempt, "progress": taken.progress}
        events.add(session, taken, [NewEvent(events.STATE, {**data, "worker": claim.worker})], now)
        return taken


def report(store: Store, session: Session, job_id: str, report: Report) -> Job:
    """What a worker found, and a lease from now on. The job that comes back says whether it is to be cancelled.

    A worker that comes back before another one claimed its job has it again. Progress never falls. Raises Unknown,
    Stale, and NotAllowed for a state that cannot follow.
    """
    job, now = held(session, job_id, report.attempt), store.now(session)
    _return(job, report.state, session, now)
    if report.state and report.state != job.state and job.state != CANCELLING:
        if report.state not in RUNNING:
            raise NotAllowed(f"A worker does not report {report.state!r}")
        jobs.move(job, report.state, session, now)
    for name in ("step", "steps", "run", "measured"):
        if (value := getattr(report, name)) is not None:
            setattr(job, name, value)
    if report.progress is not None:
        job.progress = max(job.progress, min(report.progress, MOST_PROGRESS))
    job.lease_until = now + timedelta(seconds=report.lease)
    job.updated_at = now
    events.add(session, job, _unheard(job, report), now)
    return job


def _unheard(job: Job, report: Report) -> Sequence[NewEvent]:
    """The events that are not here yet: where an answer was lost, the worker sends them once more."""
    if report.before is None:
        return report.events
    known = max(0, job.heard - report.before)
    job.heard = max(job.heard, report.before + len(report.events))
    return report.events[known:]


def held(session: Session, job_id: str, attempt: int) -> Job:
    """The locked job of an attempt that still has it. Raises Unknown and Stale."""
    job = jobs.locked(session, job_id)
    if job.attempt != attempt or job.state not in (*HELD, RESUMABLE):
        raise Stale(f"Attempt {attempt} no longer has job {job.id}: it is {job.state}, at attempt {job.attempt}")
    return job


def _return(job: Job, state: str | None, session: Session, now: datetime) -> None:
    """A worker is there again whose job waits to be resumed."""
    if job.state == RESUMABLE:
        jobs.move(job, state if state in RUNNING else PREPARING, session, now, "its worker is back")


def complete(store: Store, session: Session, job_id: str, attempt: int, result: Json) -> Job:
    """The result is stored: the job is completed, in the same transaction. To say it twice changes nothing."""
    job = jobs.locked(session, job_id)
    if job.state == COMPLETED and job.attempt == attempt and job.result == result:
        return job
    job = held(session, job_id, attempt)
    job.result = result
    now = store.now(session)
    _return(job, None, session, now)
    jobs.move(job, COMPLETED, session, now)
    session.execute(delete(Checkpoint).where(Checkpoint.job_id == job_id))  # nothing resumes any more
    return job


def fail(store: Store, session: Session, job_id: str, attempt: int, why: str) -> Job:
    """The job failed, and why; one that was being cancelled is cancelled."""
    job, now = held(session, job_id, attempt), store.now(session)
    jobs.move(job, CANCELLED if job.state == CANCELLING else FAILED, session, now, why)
    return job


def give_back(store: Store, session: Session, job_id: str, attempt: int, why: str) -> Job:
    """The worker ends without having ended the job; another one, or itself, may resume it."""
    job, now = held(session, job_id, attempt), store.now(session)
    lose(job, session, now, why)
    return job


def lose(job: Job, session: Session, now: datetime, why: str) -> None:
    """A locked job has no worker any more."""
    job.lease_until = None
    if job.state == CANCELLING:
        jobs.move(job, CANCELLED, session, now, why)
    elif job.state in RUNNING:
        jobs.move(job, RESUMABLE, session, now, why)


def update(store: Store, session: Session, job_id: str, told: Told) -> Job:
    """What a notebook says that knows nothing of attempts: the first word of one takes a job that nobody has yet.

    It has no lease, since it promises no further word. Raises Unknown, and NotAllowed where a worker has the job, or
    the status cannot follow.
    """
    job, now = jobs.locked(session, job_id), store.now(session)
    if job.state in ENDED and status_of(job.state) == told.status:
        return job
    if job.state in HELD and job.worker != NOTEBOOK:
        raise NotAllowed(f"Job {job.id} is being done by {job.worker}; only that worker may report on it")
    if job.state in CLAIMABLE and told.status == status_of(TRAINING):
        job.attempt, job.worker, job.engine = job.attempt + 1, NOTEBOOK, "colab"
        jobs.move(job, PREPARING, session, now)
        jobs.move(job, TRAINING, session, now)
    elif told.status != status_of(job.state):
        after = next((state for state in (QUEUED, COMPLETED, FAILED) if status_of(state) == told.status), TRAINING)
        jobs.move(job, after, session, now, told.error)
    if told.progress is not None and job.state not in ENDED:
        job.progress = max(job.progress, min(told.progress, MOST_PROGRESS))
    job.updated_at = now
    return job


def lose_all_of(store: Store, worker: str) -> int:
    """A worker of this name has just begun, so what an earlier one held is lost. Returns how many jobs were."""
    with store.writing() as session:
        found = session.scalars(select(Job).where(Job.worker == worker, Job.state.in_(HELD)).with_for_update()).all()
        now = store.now(session)
        for job in found:
            lose(job, session, now, "its worker ended")
        return len(found)
