"""The protocol of workers: hello, claim, data, report, pieces of the result, and how it ended.

Every call about a job names the attempt that it comes from; 409 tells a worker that another one has the job now, and
that it should stop. A lost answer is no harm: each call can be made again.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Query
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from llm_installer.core.files import FULL
from llm_installer.core.text import shortened
from llm_installer.server.guard import body_of
from llm_installer.server.problems import invalid
from llm_installer.studio import blobs, results
from llm_installer.studio.api.checkpoints import checkpoint_json
from llm_installer.studio.api.downloads import data_file
from llm_installer.studio.api.receiving import full, room
from llm_installer.studio.api.shapes import work_json
from llm_installer.studio.api.values import Values
from llm_installer.studio.colab.returned import made_a_run
from llm_installer.studio.colab.wheel import running_version
from llm_installer.studio.context import Studio
from llm_installer.studio.guard import job_of_token
from llm_installer.studio.plain import ENGINES, Json
from llm_installer.studio.store import checkpoints, claims, events, files
from llm_installer.studio.store.events import LEVELS, SAID, NewEvent
from llm_installer.studio.store.tables import Job

Name = Annotated[str, Field(min_length=1, max_length=200)]
Count = Annotated[int, Field(ge=0, le=1 << 60)]
WORDS = 4000
"""Characters of a reason."""


class Hello(BaseModel):
    """A worker that begins."""

    worker: Name
    alone: bool = False
    """Whether no other worker has this name: then what an earlier one of it had is lost."""


class Claim(BaseModel):
    """A worker that wants a job."""

    worker: Name
    engines: list[str] = ["local"]
    job_id: str = ""


class Happened(BaseModel):
    """An event that a worker reports."""

    type: str
    level: str = "info"
    data: Values = Field(default_factory=dict)


class Report(BaseModel):
    """How far a worker is."""

    attempt: Count
    state: str | None = None
    progress: Annotated[int, Field(ge=0, le=100)] | None = None
    step: Count | None = None
    steps: Count | None = None
    run: Annotated[str, Field(max_length=200)] | None = None
    measured: Values | None = None
    events: Annotated[list[Happened], Field(max_length=5000)] = []
    before: Count | None = None
    """How many events of this attempt were told before these: what is sent twice is kept once."""


class StoredFile(BaseModel):
    """A file of a result."""

    path: str
    sha256: str
    bytes: Count


class Completed(BaseModel):
    """A job that is done."""

    attempt: Count
    files: list[StoredFile]
    result: Values = Field(default_factory=dict)
    measured: Values = Field(default_factory=dict)


class Ended(BaseModel):
    """A job that is not done."""

    attempt: Count
    why: str


def router_of(studio: Studio) -> APIRouter:
    """The routes below /api/workers and /blobs."""
    router = APIRouter(tags=["workers"])

    @router.post("/api/workers/hello")
    def hello(given: Hello) -> Json:
        """A worker begins."""
        lost = claims.lose_all_of(studio.store, given.worker) if given.alone else 0
        return {"version": running_version(), "lease": studio.settings.lease, "lost": lost}

    @router.post("/api/workers/claim", response_model=None)
    def claim(given: Claim, authorization: str = Header("")) -> Response | Json:
        """Take the next job; 204 where there is none. With the token of a job, that one."""
        if strange := set(given.engines) - set(ENGINES):
            raise invalid(f"There is no engine {sorted(strange)[0]!r}", "engines")
        wanted = job_of_token(studio, authorization) if authorization else given.job_id
        if wanted is None:
            return Response(status_code=204)
        asked = claims.Claim(given.worker, tuple(given.engines), wanted, studio.settings.lease)
        job = claims.claim(studio.store, asked)
        if job is None:
            return Response(status_code=204)
        studio.tail.wake(job.id)
        with studio.store.reading() as session:
            data = files.find(session, job.file_id) if job.file_id else None
            sent = events.last_steps(session, job.id)
            kept = checkpoint_json(checkpoints.newest(session, job.id))
        return {**work_json(job, data, studio.settings.lease, sent), "checkpoint": kept}

    @router.get("/api/workers/jobs/{job_id}/data")
    def data(job_id: str, validation: bool = False) -> Response:
        """What a job learns from."""
        return data_file(studio, job_id, validation)

    _reports(router, studio)
    _endings(router, studio)
    _pieces(router, studio)
    return router


def _reports(router: APIRouter, studio: Studio) -> None:
    @router.post("/api/workers/jobs/{job_id}/report")
    def report(job_id: str, given: Report) -> Json:
        """How far a job is; without anything else this renews the lease. The answer says whether to cancel."""
        found = [_event(one) for one in given.events]
        told = claims.Report(**given.model_dump(exclude={"events"}), events=found, lease=studio.settings.lease)
        with studio.store.writing() as session:
            job = claims.report(studio.store, session, job_id, told)
        return _answer(studio, job)


def _event(one: Happened) -> NewEvent:
    if one.type not in SAID or one.level not in LEVELS:
        raise invalid(f"An event is one of {', '.join(SAID)}, and its level one of {', '.join(LEVELS)}", "events")
    return NewEvent(one.type, one.data, one.level)


def _endings(router: APIRouter, studio: Studio) -> None:
    @router.post("/api/workers/jobs/{job_id}/complete")
    def complete(job_id: str, given: Completed) -> Json:
        """A job is done, and its files were sent."""
        found = [results.ResultFile(one.path, one.sha256, one.bytes) for one in given.files]
        results.accepted(studio.folder, found)
        with made_a_run(studio, job_id, given.attempt, found) as run, studio.store.writing() as session:
            result = {**given.result, "files": results.as_json(found)}
            job = claims.complete(studio.store, session, job_id, given.attempt, result)
            job.measured = {**job.measured, **given.measured}
            job.run = run.id if run else job.run
        return _answer(studio, job)

    @router.post("/api/workers/jobs/{job_id}/fail")
    def fail(job_id: str, given: Ended) -> Json:
        """A job cannot be done, and why; or it was cancelled."""
        with studio.store.writing() as session:
            job = claims.fail(studio.store, session, job_id, given.attempt, shortened(given.why, WORDS))
        return _answer(studio, job)

    @router.post("/api/workers/jobs/{job_id}/give-back")
    def give_back(job_id: str, given: Ended) -> Json:
        """A worker ends; the job can be resumed."""
        with studio.store.writing() as session:
            job = claims.give_back(studio.store, session, job_id, given.attempt, shortened(given.why, WORDS))
        return _answer(studio, job)


def _answer(studio: Studio, job: Job) -> Json:
    studio.tail.wake(job.id)
    return {"state": job.state, "cancel": job.state == "cancelling", "attempt": job.attempt}


def _pieces(router: APIRouter, studio: Studio) -> None:
    @router.head("/blobs/{sha256}")
    def there(sha256: str) -> Response:
        """How much of a content is there (Upload-Offset), and whether that is all (Upload-Complete)."""
        return _offset(*blobs.asked(studio.folder, sha256))

    @router.put("/blobs/{sha256}")
    async def put(
        sha256: str, request: Request, offset: int = Query(ge=0), total: int = Query(ge=0, le=1 << 50)
    ) -> Response:
        """A piece of a content; `total` is how many bytes all of it has."""
        piece = await body_of(request, 2 * blobs.PIECE)
        room(studio, len(piece))
        try:
            found = await run_in_threadpool(blobs.write, studio.folder, sha256, offset, piece, total)
        except OSError as error:
            if error.errno in FULL:
                raise full() from None
            raise
        return _offset(*found)


def _offset(count: int, complete: bool) -> Response:
    headers = {"upload-offset": str(count), "upload-complete": "?1" if complete else "?0"}
    return Response(status_code=200 if complete or count else 204, headers=headers)
