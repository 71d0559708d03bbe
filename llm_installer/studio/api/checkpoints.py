"""Checkpoints over HTTP: a worker elsewhere sends them, and the one that takes over fetches the newest."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.responses import FileResponse, Response

from llm_installer.studio import blobs, checkpoints, results
from llm_installer.studio.api.downloads import BINARY
from llm_installer.studio.context import Studio
from llm_installer.studio.plain import Json
from llm_installer.studio.results import files_of
from llm_installer.studio.store import checkpoints as kept
from llm_installer.studio.store.tables import Checkpoint

Count = Annotated[int, Field(ge=0, le=1 << 31)]


class StoredFile(BaseModel):
    """A file of a run's folder."""

    path: str
    sha256: str
    bytes: Annotated[int, Field(ge=0, le=1 << 60)]


class Sent(BaseModel):
    """A checkpoint whose files were sent."""

    attempt: Count
    run: Annotated[str, Field(max_length=200)]
    step: Count
    files: Annotated[list[StoredFile], Field(max_length=checkpoints.MOST_FILES)]


def router_of(studio: Studio) -> APIRouter:
    """The routes below /api/workers/jobs/ID/checkpoint."""
    router = APIRouter(prefix="/api/workers/jobs/{job_id}/checkpoint", tags=["workers"])

    @router.post("")
    def keep(job_id: str, given: Sent) -> Json:
        """A checkpoint is there, and takes the place of the one before."""
        files = [results.ResultFile(one.path, one.sha256, one.bytes) for one in given.files]
        checkpoints.accepted(studio.folder, given.run, given.step, files)
        with studio.store.writing() as session:
            new = Checkpoint(job_id=job_id, attempt=given.attempt, run=given.run, step=given.step)
            return checkpoint_json(kept.keep(studio.store, session, new, files)) or {}

    @router.get("", response_model=None)
    def newest(job_id: str) -> Response | Json:
        """The newest checkpoint of a job; 204 where there is none."""
        with studio.store.reading() as session:
            found = checkpoint_json(kept.newest(session, job_id))
        return found or Response(status_code=204)

    @router.get("/{path:path}")
    def file(job_id: str, path: str) -> Response:
        """A file of it."""
        with studio.store.reading() as session:
            found = kept.file_of(session, job_id, path)
        return FileResponse(blobs.place(studio.folder, found.sha256), media_type=BINARY)

    return router


def checkpoint_json(found: Checkpoint | None) -> Json | None:
    """What a worker must know of a checkpoint; None where there is none."""
    if found is None:
        return None
    files = results.as_json(files_of(found.files))
    return {"run": found.run, "step": found.step, "attempt": found.attempt, "files": files}
