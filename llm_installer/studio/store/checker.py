"""Whether a studio's database and the files beside it are as they should be: each thing that is not is one sentence.

Run as: llm-installer studio --check
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from llm_installer.studio import blobs
from llm_installer.studio.options import VALIDATION
from llm_installer.studio.results import NEEDED, files_of
from llm_installer.studio.states import (
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
    STATES,
    allowed,
)
from llm_installer.studio.store import claims, cleaning, events
from llm_installer.studio.store.opening import Store
from llm_installer.studio.store.tables import Checkpoint, Delivery, Event, File, Hook, Job, Token


def check(store: Store, folder: Path, age: float = 2 * cleaning.DAY) -> list[str]:
    """What is wrong; nothing where all is well. `folder` is the data folder; what is left over there is wrong where it
    has been there for longer than `age` seconds, for a studio that runs deletes it before."""
    with store.reading() as session:
        found = list(_database(store, session))
        jobs = session.scalars(select(Job).order_by(Job.created_at)).all()
        for job in jobs:
            found += _job(session, job)
        found += _references(session, jobs)
        found += _contents(session, folder)
    left = [file for file in cleaning.left_over(store, folder) if time.time() - cleaning.came(file) >= age]
    return found + [f"{file.relative_to(folder)} belongs to nothing" for file in left]


def _database(store: Store, session: Session) -> Iterator[str]:
    """What SQLite says of its file; Postgres sees to that by itself."""
    if store.postgres:
        return
    for (said,) in session.execute(text("PRAGMA integrity_check")).all():
        if said != "ok":
            yield f"The file of the database is damaged: {said}"
    for row in session.execute(text("PRAGMA foreign_key_check")).all():
        yield f"A row of {row[0]} refers to a row of {row[2]} that is not there"


def _job(session: Session, job: Job) -> Iterator[str]:
    """A job by itself, and beside what its events tell."""
    name = f"Job {job.id}"
    if job.state not in STATES:
        yield f"{name} is in a state that does not exist, {job.state!r}"
        return
    yield from _told(job, events.of_type(session, job.id, events.STATE))
    if not 0 <= job.progress <= (100 if job.state == COMPLETED else claims.MOST_PROGRESS):
        yield f"{name} is {job.state}, and its progress is {job.progress}"
    if (job.finished_at is not None) != (job.state in ENDED):
        yield f"{name} is {job.state}, and {'has' if job.finished_at else 'lacks'} a time at which it ended"
    if job.lease_until and job.state not in HELD:
        yield f"{name} is {job.state}, and has a lease"
    if job.lease_until is None and job.state in HELD and job.worker != claims.NOTEBOOK:
        yield f"{name} is held by {job.worker or 'nobody'} without a lease, so nothing would end that"
    if job.state in HELD and job.attempt < 1:
        yield f"{name} is held, and nobody has claimed it"
    if job.state == FAILED and not job.error:
        yield f"{name} failed without a reason"
    names = [file.path for file in files_of(job.result)]
    if len(names) != len(set(names)):
        yield f"{name} has a file twice in its result"
    by_worker = job.state == COMPLETED and job.worker != claims.NOTEBOOK
    if by_worker and (missing := [path for path in NEEDED if path not in names]):
        yield f"{name} is completed, and its result lacks {missing[0]}"


def _told(job: Job, told: Sequence[Event]) -> Iterator[str]:
    """Whether the states that its events tell follow each other, and end where it is."""
    name, before, attempt, progress = f"Job {job.id}", "", 0, 0
    for event in told:
        state = str(event.data.get("state"))
        if state not in STATES or not (allowed(before, state) if before else state == QUEUED):
            yield f"{name} became {state} after {before or 'nothing'}, in event {event.id}"
            return
        now, shown = _number(event.data.get("attempt")), _number(event.data.get("progress"))
        claimed = before in CLAIMABLE and state == PREPARING
        back = before == RESUMABLE and state in RUNNING
        if now != attempt and not (claimed and now == attempt + 1):
            yield f"{name} came from attempt {attempt} to {now} when it became {state}, in event {event.id}"
        if claimed and not back and now == attempt:
            yield f"{name} was claimed without a new attempt, in event {event.id}"
        if shown < progress:
            yield f"{name} fell from {progress} to {shown} percent, in event {event.id}"
        before, attempt, progress = state, now, shown
    if (before, attempt) != (job.state, job.attempt):
        yield f"{name} is {job.state} at attempt {job.attempt}; its events end with {before} at attempt {attempt}"
    if sum(event.data.get("state") == COMPLETED for event in told) > 1:
        yield f"{name} was completed more than once"


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def _references(session: Session, jobs: Sequence[Job]) -> Iterator[str]:
    """Rows that refer to rows by a key, or only by name."""
    ids, kept = {job.id for job in jobs}, set(session.scalars(select(File.id)))
    for table in (Event, Token, Checkpoint):
        for job_id in session.scalars(select(table.job_id).distinct()):
            if job_id not in ids:
                yield f"A row of {table.__tablename__} is of job {job_id}, which is not there"
    hooks = set(session.scalars(select(Hook.id)))
    if set(session.scalars(select(Delivery.hook_id).distinct())) - hooks:
        yield "A message waits for a webhook that is not there"
    for job in jobs:
        wanted = {job.file_id, job.options.get(VALIDATION)} - {None}
        if job.state not in ENDED and (missing := wanted - kept):
            yield f"Job {job.id} is to learn from file {sorted(map(str, missing))[0]}, which is not there"


def _contents(session: Session, folder: Path) -> Iterator[str]:
    """Whether what rows say of contents is what the disk has."""
    for file in session.scalars(select(File)):
        place = folder / "files" / file.id
        if not place.is_file():
            yield f"The content of file {file.id} is not there"
        elif (place.stat().st_size, blobs.file_hash(place)) != (file.bytes, file.sha256):
            yield f"The content of file {file.id} has changed since it came"
    kept = [(f"the checkpoint of job {one.job_id}", one.files) for one in session.scalars(select(Checkpoint))]
    for what, found in [*kept, *((f"the result of job {job.id}", job.result) for job in session.scalars(select(Job)))]:
        for one in files_of(found):
            if blobs.received(folder, one.sha256) != (one.bytes, True):
                yield f"{one.path} of {what} is not there completely"
            elif blobs.file_hash(blobs.place(folder, one.sha256)) != one.sha256:
                yield f"{one.path} of {what} has changed since it came"


def said(store: Store, found: Sequence[str]) -> str:
    """The sentence about a database in which nothing is wrong, or how much is."""
    with store.reading() as session:
        count = len(session.scalars(select(Job.id)).all())
        waiting = len(session.scalars(select(Job.id).where(Job.state.in_((*HELD, *CLAIMABLE, CANCELLING)))).all())
    jobs = f"{count} job{'' if count == 1 else 's'}, {waiting} of them not ended"
    return (
        f"{len(found)} found wrong in the studio's database ({jobs})"
        if found
        else f"The studio's database is as it should be: {jobs}"
    )
