"""The newest checkpoint of a job that a worker elsewhere sent."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.orm import Session

from llm_installer.studio.results import ResultFile, as_json, files_of
from llm_installer.studio.store import claims
from llm_installer.studio.store.opening import Store
from llm_installer.studio.store.refusals import Unknown
from llm_installer.studio.store.tables import Checkpoint


def keep(store: Store, session: Session, found: Checkpoint, files: Sequence[ResultFile]) -> Checkpoint:
    """A checkpoint takes the place of the one before; one of an earlier step of the same run changes nothing. Raises
    Unknown, and Stale for an attempt that no longer has the job."""
    claims.held(session, found.job_id, found.attempt)
    before = session.get(Checkpoint, found.job_id)
    if before and before.run == found.run and before.step > found.step:
        return before
    if before:
        session.delete(before)
        session.flush()
    found.at, found.files = store.now(session), {"files": as_json(files)}
    session.add(found)
    return found


def newest(session: Session, job_id: str) -> Checkpoint | None:
    """The checkpoint of a job; None where there is none."""
    return session.get(Checkpoint, job_id)


def file_of(session: Session, job_id: str, path: str) -> ResultFile:
    """A file of it. Raises Unknown."""
    checkpoint = newest(session, job_id)
    found = next((one for one in files_of(checkpoint.files) if one.path == path), None) if checkpoint else None
    if found is None:
        raise Unknown(f"The checkpoint of job {job_id} has no file {path[:80]!r}")
    return found
