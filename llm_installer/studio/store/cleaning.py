"""What is deleted, and by which rule.

A job is deleted when someone says so, once it has ended: its events, tokens and result go with it; its run stays in the
model directory, where `adapters MODEL remove` deletes it. By itself the studio deletes only what nothing refers to:
contents of results a day after they came, and pieces and files that never came completely.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from llm_installer.core.home import llm_home
from llm_installer.studio.results import files_of
from llm_installer.studio.states import ENDED, words_of
from llm_installer.studio.store import jobs
from llm_installer.studio.store.opening import Store
from llm_installer.studio.store.refusals import NotAllowed
from llm_installer.studio.store.tables import Event, Job

DAY = 86_400.0
AT_ONCE = 1000
"""Rows that one transaction deletes: others wait meanwhile."""


def delete_job(store: Store, job_id: str) -> None:
    """Delete a job that has ended. Raises Unknown, and NotAllowed for one that has not."""
    while _some_events(store, job_id):
        pass
    with store.writing() as session:
        session.delete(_ended(session, job_id))
    shutil.rmtree(llm_home() / "studio" / "jobs" / job_id, ignore_errors=True)


def _some_events(store: Store, job_id: str) -> bool:
    """Delete some of its events; whether there may be more."""
    with store.writing() as session:
        _ended(session, job_id)
        ids = session.scalars(select(Event.id).where(Event.job_id == job_id).limit(AT_ONCE)).all()
        session.execute(delete(Event).where(Event.id.in_(ids)))
        return len(ids) == AT_ONCE


def _ended(session: Session, job_id: str) -> Job:
    job = jobs.locked(session, job_id)
    if job.state not in ENDED:
        raise NotAllowed(f"Job {job_id} is {words_of(job.state)}; cancel it before it is deleted")
    return job


def sweep(store: Store, folder: Path, age: float = DAY) -> int:
    """Delete contents that no job refers to and that came `age` seconds ago or more; returns how many."""
    old = [file for file in _contents(folder) if time.time() - file.stat().st_mtime >= age]
    if not old:
        return 0
    with store.reading() as session:
        known = {file.sha256 for result in session.scalars(select(Job.result)) for file in files_of(result)}
    gone = [file for file in old if not (file.name in known and file.parent.name == file.name[:2])]
    for file in gone:
        file.unlink(missing_ok=True)
    return len(gone)


def _contents(folder: Path) -> Iterator[Path]:
    yield from (file for file in (folder / "blobs").glob("*/*") if file.is_file())
    yield from (folder / "files").glob(".receiving-*")
