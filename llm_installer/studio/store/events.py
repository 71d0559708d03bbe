"""The events of jobs: written in the transaction that changes the job, read by number.

Whoever writes has locked the row of the job, so within a job the numbers come in the order in which they are seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from llm_installer.studio.plain import Json
from llm_installer.studio.store import hooks
from llm_installer.studio.store.tables import Event, Job

MESSAGE, METRICS, STATE, SAMPLE = "message", "metrics", "state", "sample"
SAID = (MESSAGE, METRICS, SAMPLE)
"""What workers say; a state is told by the transaction that changes it, and by nobody else."""
LEVELS = ("info", "warn", "error")
MOST = 1000
"""Events that are read at once."""


@dataclass(frozen=True)
class NewEvent:
    """An event that has no number yet."""

    type: str
    data: Json = field(default_factory=dict)
    """message: {"text"}; metrics: a line of metrics.jsonl; state: {"state", "status", "attempt", "why"}."""
    level: str = "info"


def add(session: Session, job: Job, found: Sequence[NewEvent], now: datetime) -> None:
    """Append events to a locked job."""
    rows = [Event(job_id=job.id, at=now, level=one.level, type=one.type, data=one.data) for one in found]
    session.add_all(rows)
    session.flush()
    hooks.told(session, job, [row for row in rows if row.type == STATE], now)


def after(session: Session, job_id: str, last: int = 0, most: int = MOST) -> Sequence[Event]:
    """The events of a job with a number above `last`, in order."""
    query = select(Event).where(Event.job_id == job_id, Event.id > last).order_by(Event.id).limit(most)
    return session.scalars(query).all()


def newest(session: Session, job_id: str, before: int | None, most: int) -> Sequence[Event]:
    """The newest events of a job, the newest first; those below the number `before` where it is given."""
    query = select(Event).where(Event.job_id == job_id).order_by(Event.id.desc()).limit(most)
    return session.scalars(query.where(Event.id < before) if before else query).all()


def of_type(session: Session, job_id: str, kind: str) -> Sequence[Event]:
    """All events of a job of one type, in order."""
    return session.scalars(select(Event).where(Event.job_id == job_id, Event.type == kind).order_by(Event.id)).all()


def count_after(session: Session, job_id: str, last: int) -> int:
    """How many events of a job have a number above `last`."""
    query = select(func.count()).select_from(Event).where(Event.job_id == job_id, Event.id > last)
    return session.scalar(query) or 0


def last_steps(session: Session, job_id: str) -> dict[str, int]:
    """The highest step of each kind of metrics of a job: {"step": 40, "evaluation": 40}."""
    found: dict[str, int] = {}
    for event in of_type(session, job_id, METRICS):
        kind, step = str(event.data.get("kind")), event.data.get("step")
        if isinstance(step, int):
            found[kind] = max(found.get(kind, -1), step)
    return found


def last_number(session: Session, job_id: str) -> int:
    """The number of the newest event of a job; 0 where there is none."""
    return session.scalar(select(func.max(Event.id)).where(Event.job_id == job_id)) or 0
