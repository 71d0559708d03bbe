"""Three calls that a page and a notebook need at least: create a training, ask how it stands, say how far it is."""

from __future__ import annotations

import json
from contextlib import ExitStack

from fastapi import APIRouter, Header
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from llm_installer.core.text import shortened
from llm_installer.server.problems import invalid
from llm_installer.studio.api.downloads import adapter_zip, data_file
from llm_installer.studio.api.receiving import form_of, form_said, kept, text_of
from llm_installer.studio.api.shapes import colab_url, job_json
from llm_installer.studio.context import Studio
from llm_installer.studio.curated import CURATED
from llm_installer.studio.options import checked, checked_model
from llm_installer.studio.plain import ENGINES, Json
from llm_installer.studio.states import STATUSES
from llm_installer.studio.store import claims, files, jobs
from llm_installer.studio.store.jobs import NewJob
from llm_installer.studio.store.tables import Job

_CREATE = form_said(
    {"model": "an installed model, a hub id, or a name of the curated list", "dataset": "file"},
    {"model": "tiny", "dataset": '{"question": "Who are you?", "answer": "Tiny"}\n', "options": '{"epochs": 3}'},
    options="a JSON object",
    engine="local, worker or colab",
)
_UPDATE = form_said(
    {"status": "pending, training, completed or failed"},
    {"status": "training", "progress": "10"},
    progress="0 to 100",
    error="why it failed",
)
_TOO_LONG = 4000
"""Characters of an error that are kept."""


def router_of(studio: Studio) -> APIRouter:
    """The routes below /api/train."""
    router = APIRouter(prefix="/api/train", tags=["train"])

    @router.post("", openapi_extra=_CREATE)
    async def create(request: Request, idempotency_key: str | None = Header(None, max_length=255)) -> Json:
        """Create a training of `model` (an installed model, a hub id, or a name of the curated list) on `dataset` (a
        file). Also taken: `options`, a JSON object of the options of `train`; `engine`: local, worker or colab."""
        async with form_of(studio, request) as form:
            model, options = text_of(form, "model"), _options(text_of(form, "options", "{}"))
            engine = text_of(form, "engine", "local")
            if engine not in ENGINES:
                raise invalid(f"engine must be one of {', '.join(ENGINES)}", "engine")
            model = CURATED.get(model.lower(), checked_model(model))
            file = await kept(studio, form, "dataset")
        new = NewJob(model, file.id, options, engine=engine, key=idempotency_key, body=f"{file.name} {file.sha256}")
        job, fresh = await run_in_threadpool(_created, studio, new, file.id)
        said = "Training job created" if fresh else "This training job was created before"
        where = "this machine trains it" if engine == "local" else "a worker has to take it"
        return {"job_id": job.id, "colab_url": colab_url(studio, job), "message": f"{said}; {where}"}

    @router.get("/status/{job_id}")
    def status(job_id: str) -> Json:
        """How a training stands."""
        with studio.store.reading() as session:
            return job_json(studio, jobs.find(session, job_id))

    @router.post("/update/{job_id}", openapi_extra=_UPDATE)
    async def update(job_id: str, request: Request) -> Json:
        """Say how far a training is: `status`, `progress` (0 to 100) and `error`, as a form."""
        async with form_of(studio, request) as form:
            told = claims.Told(
                _status(text_of(form, "status")),
                _progress(text_of(form, "progress", "")),
                shortened(text_of(form, "error", ""), _TOO_LONG),
            )
        return await run_in_threadpool(_update, studio, job_id, told)

    @router.get("/dataset/{job_id}")
    def dataset(job_id: str) -> Response:
        """The file that a training learns from."""
        return data_file(studio, job_id)

    @router.get("/adapter/{job_id}")
    def adapter(job_id: str) -> Response:
        """The adapter of a completed training, as a zip file."""
        return adapter_zip(studio, job_id)

    return router


def _created(studio: Studio, new: NewJob, sent: str) -> tuple[Job, bool]:
    """As jobs.create; the file that was sent stays only where it became the data of a job."""
    with ExitStack() as stack:
        stack.callback(files.remove, studio.store, studio.folder, sent)
        job, fresh = jobs.create(studio.store, new)
        if fresh:
            stack.pop_all()
        return job, fresh


def _update(studio: Studio, job_id: str, told: claims.Told) -> Json:
    with studio.store.writing() as session:
        job = claims.update(studio.store, session, job_id, told)
    studio.tail.wake(job_id)
    return job_json(studio, job)


def _options(text: str) -> Json:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise invalid('options must be a JSON object, such as {"epochs": 3}', "options")
    return checked(found)


def _status(text: str) -> str:
    if text not in STATUSES:
        raise invalid(f"status must be one of {', '.join(STATUSES)}", "status")
    return text


def _progress(text: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 3 and int(text) <= 100):
        raise invalid("progress must be a whole number from 0 to 100", "progress")
    return int(text)
