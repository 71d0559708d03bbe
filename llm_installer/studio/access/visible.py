"""Runs lie in folders, not in the database: whose they are is what their jobs say. Others do not exist for a member."""

from __future__ import annotations

import json

from sqlalchemy import select
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from llm_installer.core.home import models_dir
from llm_installer.core.paths import ModelDir, Run
from llm_installer.core.run.record import RunRecord
from llm_installer.server.problems import unknown_model
from llm_installer.studio.colab.accept import ELSEWHERE
from llm_installer.studio.context import Studio
from llm_installer.studio.store.acting import ACTING
from llm_installer.studio.store.refusals import Unknown
from llm_installer.studio.store.tables import Job


def only_own() -> bool:
    """Whether whoever asks sees nothing but what is their own."""
    acting = ACTING.get()
    return acting is not None and not acting.everything


def refuse_run(studio: Studio, key: str) -> None:
    """Raise Unknown for model/run where that run came of nobody's job, or of somebody else's."""
    model, _, run = key.partition("/")
    if only_own() and run not in _runs(studio, model):
        raise Unknown(f"There is no run {key!r}")


def of_job(run: Run, job_id: str) -> bool:
    """Whether a run came of a job, as its own record says: the name alone is the word of whoever has the job's token.
    Where there are no accounts that is enough."""
    if ACTING.get() is None:
        return True
    if (record := RunRecord.read(run)) is None:
        return False
    learned = str(record.options.get("data") or "")
    return record.result.get(ELSEWHERE) == job_id or f"/jobs/{job_id}/data/" in learned


def _runs(studio: Studio, model: str) -> set[str]:
    """Ids of one's own runs of a model, by the name of its folder."""
    with studio.store.reading() as session:
        found = session.execute(select(Job.id, Job.model, Job.run).where(Job.run != "")).all()
    runs = ModelDir(models_dir() / model).runs
    own = [(job, run) for job, name, run in found if name.replace("/", "_") == model and "/" not in run]
    return {run for job, run in own if of_job(Run(runs / run), job)}


async def refuse_chat(studio: Studio, name: str, path: str, request: Request) -> None:
    """Raise Problem where a request to the server of a model is about a result of somebody else, or would write into
    the file of rows that all who chat with it share."""
    if not only_own():
        return
    asked = path.removeprefix("v1/models/") if path.startswith("v1/models/") else None
    if request.method == "POST":
        try:
            found = json.loads(await request.body())
        except (ValueError, RecursionError):
            found = None
        asked = str(found.get("model")) if isinstance(found, dict) and path.startswith("v1/") else ""
    if asked is not None and asked not in _names(studio, name):
        raise unknown_model(asked[:100] or "?", sorted(_names(studio, name)))


def _names(studio: Studio, name: str) -> set[str]:
    return {name, *(f"{name}:{run}" for run in _runs(studio, name))}


async def own_models(studio: Studio, name: str, path: str, answer: Response) -> Response:
    """The list of what a server offers, without the results of others."""
    listing = path == "v1/models" and answer.status_code == 200
    if not (only_own() and listing and isinstance(answer, StreamingResponse)):
        return answer
    body = b"".join([bytes(piece) async for piece in answer.body_iterator])  # type: ignore[arg-type]
    listed = json.loads(body)
    kept = [one for one in listed["data"] if one["id"] in _names(studio, name)]
    return JSONResponse({**listed, "data": kept}, answer.status_code)
