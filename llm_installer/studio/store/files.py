"""Files that were uploaded: a row each, and their content in files/ID of the data folder.

Pages call `keep` with a file that was received into the same data folder (`receiving`), and `path_of`.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session

from llm_installer.studio.options import VALIDATION
from llm_installer.studio.plain import plain_name
from llm_installer.studio.states import ENDED
from llm_installer.studio.store import acting, quotas
from llm_installer.studio.store.opening import Store
from llm_installer.studio.store.refusals import NotAllowed, Refused, Unknown
from llm_installer.studio.store.tables import File, Job

LOOKED_AT = "looked-at"
"""The folder of the data folder with a folder for each file that a page has read."""
FETCHES = "fetches"
"""The folder of the data folder with the datasets that are fetched from the hub, in a folder for each account."""
KEPT = ".kept"
"""How a note there ends that says which file a dataset has become."""


class Gone(Refused):
    """A file has its row, and its content is not on the disk any more."""

    status = 410
    code = "gone"


def keep(store: Store, folder: Path, received: Path, name: str, purpose: str = "fine-tune") -> File:
    """Take over a complete file; `folder` is the data folder, `received` is moved. Raises OSError and TooMuch, and what
    was received is where it was then."""
    digest, count = _hashed(received)
    found_id = f"file-{uuid.uuid4().hex}"
    place = path_of(folder, found_id)
    place.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        with store.writing() as session:
            quotas.refuse_file(store, session, count)
            file = File(
                id=found_id,
                name=plain_name(name),
                bytes=count,
                sha256=digest,
                purpose=purpose,
                created_at=store.now(session),
                owner=acting.owner(),
            )
            session.add(file)
            session.flush()
            os.replace(received, place)
            stack.callback(os.replace, place, received)
        stack.pop_all()  # it has its row: the content stays
        return file


def path_of(folder: Path, file_id: str) -> Path:
    """Where the content of a file is; only for the id of a row."""
    return folder / "files" / file_id


def content_of(folder: Path, file: File) -> Path:
    """Where the content of a file is. Raises Gone where somebody has deleted it there."""
    if not (place := path_of(folder, file.id)).is_file():
        raise Gone(f"The content of file {file.id} is no longer on the disk; delete it here, and send it again")
    return place


def receiving(folder: Path) -> Path:
    """A new name for a file that is being received, on the disk of the data folder."""
    place = folder / "files" / f".receiving-{uuid.uuid4().hex}"
    place.parent.mkdir(parents=True, exist_ok=True)
    return place


def find(session: Session, file_id: str) -> File:
    """A file. Raises Unknown."""
    if (file := session.get(File, file_id)) is None:
        raise Unknown(f"There is no file {file_id!r}")
    return file


@dataclass(frozen=True)
class Wanted:
    """Which files a list shows."""

    purpose: str = ""
    """All where it is empty."""
    most: int = 100
    after: str = ""
    """The id of the file before the first one, as a list goes on."""
    oldest_first: bool = False


_ANY = Wanted()


def listed(session: Session, wanted: Wanted = _ANY) -> Sequence[File]:
    """Files, the newest first unless it is said otherwise. Raises Unknown where `after` is no file."""
    columns = (File.created_at, File.id)
    query = select(File).order_by(*(one if wanted.oldest_first else one.desc() for one in columns)).limit(wanted.most)
    if wanted.purpose:
        query = query.where(File.purpose == wanted.purpose)
    if wanted.after:
        last = find(session, wanted.after)
        place, known = tuple_(*columns), (last.created_at, last.id)
        query = query.where(place > known if wanted.oldest_first else place < known)
    return session.scalars(query).all()


def remove(store: Store, folder: Path, file_id: str) -> None:
    """Delete a file. Raises Unknown, and NotAllowed while a job needs it; jobs that ended keep all but their data."""
    with store.writing() as session:
        file = find(session, file_id)
        with acting.for_everybody():  # an administrator may train on it, too
            users = session.scalars(select(Job).where(Job.file_id == file_id).with_for_update()).all()
            validated = (Job.options[VALIDATION].as_string() == file_id) & Job.state.not_in(ENDED)
            others = session.scalars(select(Job).where(validated).with_for_update()).all()
        if busy := next((job for job in (*users, *others) if job.state not in ENDED), None):
            raise NotAllowed(f"File {file_id} is the data of job {busy.id}, which has not ended; cancel that job first")
        for job in users:
            job.file_id = None
        session.flush()
        session.delete(file)
    path_of(folder, file_id).unlink(missing_ok=True)
    shutil.rmtree(folder / LOOKED_AT / file_id, ignore_errors=True)  # its other name


def _hashed(file: Path) -> tuple[str, int]:
    digest, count = hashlib.sha256(), 0
    with file.open("rb") as content:
        while piece := content.read(1 << 20):
            digest.update(piece)
            count += len(piece)
    return digest.hexdigest(), count
