"""What is deleted, and by which rule.

A job is deleted when someone says so, once it has ended: its events, tokens and result go with it; its run stays in the
model directory, where `adapters MODEL remove` deletes it. By itself the studio deletes only what nothing refers to:
contents of results and checkpoints, files without a row, datasets of the hub that nobody has kept, and what never came
completely, a day after it came; what it counted of tries that are long over; and rows of the audit log after a year.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from llm_installer.core.home import llm_home
from llm_installer.studio.results import files_of
from llm_installer.studio.states import ENDED, words_of
from llm_installer.studio.store import files, jobs
from llm_installer.studio.store.account_tables import Tries
from llm_installer.studio.store.events import STATE
from llm_installer.studio.store.opening import Store
from llm_installer.studio.store.refusals import NotAllowed
from llm_installer.studio.store.tables import Checkpoint, Event, File, Job

DAY = 86_400.0
AT_ONCE = 1000
"""Rows that one transaction deletes: others wait meanwhile."""


def delete_job(store: Store, job_id: str) -> None:
    """Delete a job that has ended. Raises Unknown, and NotAllowed for one that has not."""
    while _some_events(store, job_id):
        pass
    with store.writing() as session:
        found = _ended(session, job_id)
        shutil.rmtree(llm_home() / "studio" / "jobs" / job_id, ignore_errors=True)  # while its row still says of it
        session.delete(found)


def _some_events(store: Store, job_id: str) -> bool:
    """Delete some of its events; whether there may be more. Those of its states go with it, so that what is left of a
    deletion that was cut off is a job like any other."""
    with store.writing() as session:
        _ended(session, job_id)
        some = select(Event.id).where(Event.job_id == job_id, Event.type != STATE).limit(AT_ONCE)
        ids = session.scalars(some).all()
        session.execute(delete(Event).where(Event.id.in_(ids)))
        return len(ids) == AT_ONCE


def _ended(session: Session, job_id: str) -> Job:
    job = jobs.locked(session, job_id)
    if job.state not in ENDED:
        raise NotAllowed(f"Job {job_id} is {words_of(job.state)}; cancel it before it is deleted")
    return job


def sweep(store: Store, folder: Path, age: float = DAY) -> int:
    """Delete what `left_over` finds and what came `age` seconds ago or more; returns how many."""
    old = {file for file in _contents(folder) if time.time() - came(file) >= age}
    gone = [file for file in left_over(store, folder) if file in old] if old else []
    for file in gone:
        shutil.rmtree(file) if file.is_dir() else file.unlink(missing_ok=True)
    return len(gone)


def _said(note: Path) -> str:
    """Which file a dataset of the hub has become."""
    with suppress(OSError):
        return note.read_text(encoding="utf-8")
    return ""


def came(file: Path) -> float:
    """When a file came, in seconds since 1970; of a dataset that is fetched, when the last of its files did, since it
    may have been begun the day before. What is gone meanwhile came just now."""
    of_it = [file] if file.parent.parent.name != files.FETCHES else file.parent.glob(f"*{file.name.strip('.')[:24]}*")
    try:
        return max(one.stat().st_mtime for one in of_it)
    except (FileNotFoundError, ValueError):
        return time.time()


def sweep_tries(store: Store) -> int:
    """Delete counters that no longer hold anybody up; returns how many. Sign-in counters expire after 12 hours, quotas
    within a day."""
    count = some = _some_tries(store)
    while some == AT_ONCE:
        count += (some := _some_tries(store))
    return count


def _some_tries(store: Store) -> int:
    """Delete some of them; how many."""
    with store.writing() as session:
        old = select(Tries.key).where(Tries.at < store.now(session) - timedelta(seconds=DAY)).limit(AT_ONCE)
        keys = session.scalars(old.with_for_update(skip_locked=True)).all()  # whoever counts now keeps theirs
        session.execute(delete(Tries).where(Tries.key.in_(keys)))
        return len(keys)


def left_over(store: Store, folder: Path) -> list[Path]:
    """Contents of the data folder that nothing refers to. Those that came just now may be referred to in a moment."""
    found = list(_contents(folder))
    if not found:
        return []
    with store.reading() as session:
        kept = [*session.scalars(select(Job.result)), *session.scalars(select(Checkpoint.files))]
        names = {file.sha256 for one in kept for file in files_of(one)}
        known = {folder / "blobs" / name[:2] / name for name in names}
        ids = session.scalars(select(File.id)).all()
        known |= {folder / where / id for id in ids for where in ("files", files.LOOKED_AT)}
        known |= {file for file in found if file.suffix == files.KEPT and _said(file) in ids}
    return [file for file in found if file not in known]


def _contents(folder: Path) -> Iterator[Path]:
    yield from (file for file in (folder / "blobs").glob("*/*") if file.is_file())
    yield from (file for file in (folder / "files").glob("*") if file.is_file())
    yield from (file for file in (folder / files.LOOKED_AT).glob("*") if file.is_dir())
    yield from (file for file in (folder / files.FETCHES).glob("*/*") if file.is_file())
